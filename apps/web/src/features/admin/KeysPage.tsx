// API keys: what programs sign in with.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { ago } from '../../lib/format';
import type { ApiKey } from '../../sdk';
import { Button } from '../../ui/Button';
import { Confirm } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { Spinner } from '../../ui/Misc';
import { Failed } from '../security/PasskeyList';
import { useLoaded } from '../security/useLoaded';
import styles from './admin.module.css';
import { KeyDialog } from './KeyDialog';

export function KeysPage() {
  const chat = useChat();
  const { admin } = chat.client;
  const [load] = useState(() => () => admin.apiKeys());
  const [list, reload] = useLoaded(load);
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<ApiKey | null>(null);
  const revoke = (key: ApiKey) => {
    admin.revokeApiKey(key.id).then(() => {
      chat.toasts.show(`${key.name} was revoked.`);
      reload();
    }, chat.toasts.failed);
  };
  return (
    <>
      <div className={styles.tools}>
        <p className={styles.lead}>
          Bots and back ends sign in with these. Each can do just what it was given.
        </p>
        <Button variant="primary" onClick={() => setMaking(true)}>
          New key
        </Button>
      </div>
      {list.status === 'loading' && <Spinner label="Loading keys" />}
      {list.status === 'failed' && <Failed what="The keys" again={reload} />}
      {list.status === 'ready' && list.value.length === 0 && <p className={styles.none}>No keys yet.</p>}
      {list.status === 'ready' && list.value.length > 0 && (
        <ul className={styles.list}>
          {list.value.map((key) => (
            <li key={key.id} className={styles.row} data-testid="api-key">
              <span className={styles.rowIcon}>
                <Icon name="key" />
              </span>
              <span className={styles.rowText}>
                <span className={styles.rowName}>
                  <span className={styles.ellipsis}>{key.name}</span>
                  {key.scopes.map((scope) => (
                    <span key={scope} className={styles.scope}>
                      {scope}
                    </span>
                  ))}
                </span>
                <span className={styles.rowMeta}>
                  {key.user ? `As @${key.user.username} · ` : ''}
                  {key.last_used_at != null ? `used ${ago(key.last_used_at)}` : 'never used'}
                </span>
                <span className={styles.rowMeta}>{lifeOf(key)}</span>
              </span>
              <Button size="s" aria-label={`Revoke ${key.name}`} onClick={() => setRevoking(key)}>
                Revoke
              </Button>
            </li>
          ))}
        </ul>
      )}
      {making && <KeyDialog onClose={() => setMaking(false)} onDone={reload} />}
      {revoking && (
        <Confirm
          title={`Revoke ${revoking.name}?`}
          text="Programs that use it are shut out at once, and so is everybody who came in by a token of theirs."
          action="Revoke"
          onConfirm={() => revoke(revoking)}
          onClose={() => setRevoking(null)}
        />
      )}
    </>
  );
}

export function lifeOf(key: ApiKey, now = Date.now()): string {
  const made = `Made ${ago(key.created_at, now)}`;
  if (key.expires_at == null) return `${made}, never ends`;
  return `${made}, ${key.expires_at <= now ? 'ended' : 'ends'} ${ago(key.expires_at, now)}`;
}
