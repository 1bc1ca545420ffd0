// Where one is signed in, and how to end that.

import { useCallback, useEffect, useState } from 'react';
import { useChat } from '../../app/context';
import { ago } from '../../lib/format';
import type { DeviceSession } from '../../sdk';
import { Button } from '../../ui/Button';
import { Confirm } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { Empty, Spinner } from '../../ui/Misc';
import { deviceName } from './device';
import styles from './settings.module.css';

export function SessionList() {
  const chat = useChat();
  const [sessions, setSessions] = useState<DeviceSession[] | 'loading' | 'failed'>('loading');
  const [endingOthers, setEndingOthers] = useState(false);
  const load = useCallback(() => {
    chat.client.auth.sessions().then(
      (list) =>
        setSessions(
          list.sort((a, b) => Number(b.current) - Number(a.current) || b.last_seen_at - a.last_seen_at),
        ),
      () => setSessions('failed'),
    );
  }, [chat]);
  useEffect(load, [load]);

  if (sessions === 'loading') return <Spinner label="Loading devices" />;
  if (sessions === 'failed') {
    return (
      <Empty icon="alert" title="Your devices could not be loaded">
        <Button onClick={load}>Try again</Button>
      </Empty>
    );
  }
  const end = (id: string) => {
    chat.client.auth.revokeSession(id).then(load, chat.toasts.failed);
  };
  const endOthers = () => {
    chat.client.auth.revokeOtherSessions().then(() => {
      chat.toasts.show('Every other device is signed out.');
      load();
    }, chat.toasts.failed);
  };
  return (
    <div className={styles.form}>
      <p className={styles.muted}>
        You are signed in on these devices. Signing one out takes effect at once.
      </p>
      <ul className={styles.sessions}>
        {sessions.map((session) => (
          <li key={session.id} className={styles.session}>
            <span className={styles.sessionIcon}>
              <Icon name="monitor" />
            </span>
            <span className={styles.sessionText}>
              <span className={styles.sessionName}>{deviceName(session.device)}</span>
              <span className={styles.muted}>
                {session.current ? (
                  <span className={styles.current}>This device</span>
                ) : (
                  `Active ${ago(session.last_seen_at)}`
                )}
                {` · ${session.ip}`}
              </span>
            </span>
            {!session.current && (
              <Button
                size="s"
                onClick={() => end(session.id)}
                aria-label={`Sign out ${deviceName(session.device)}`}
              >
                Sign out
              </Button>
            )}
          </li>
        ))}
      </ul>
      {sessions.length > 1 && (
        <div>
          <Button onClick={() => setEndingOthers(true)}>End all other sessions</Button>
        </div>
      )}
      {endingOthers && (
        <Confirm
          title="End all other sessions?"
          text="Every device but this one has to sign in again. Open pages there end at once."
          action="End them"
          onConfirm={endOthers}
          onClose={() => setEndingOthers(false)}
        />
      )}
    </div>
  );
}
