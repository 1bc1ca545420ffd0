// What the connection is doing, in words, with a way to hurry it.

import { useEffect, useState } from 'react';
import { useChat } from '../../app/context';
import { useNow, useStore } from '../../app/hooks';
import type { ConnectionState } from '../../sdk';
import { Icon } from '../../ui/Icon';
import styles from './connection.module.css';

/** A blip that is over before this is not worth anybody's attention. */
const PATIENCE_MS = 700;

function words(state: ConnectionState, now: number): string {
  switch (state.status) {
    case 'offline':
      return 'You are offline';
    case 'reconnecting': {
      const seconds = Math.max(0, Math.ceil((state.at - now) / 1000));
      const why =
        state.reason === 'drain'
          ? 'Server is restarting'
          : state.reason === 'limited'
            ? 'Too many connections'
            : 'Connection lost';
      return seconds > 0 ? `${why} · back in ${seconds} s` : `${why} · reconnecting`;
    }
    case 'closed':
      return state.reason === 'forbidden' ? 'The server refused the connection' : 'Disconnected';
    default:
      return 'Connecting…';
  }
}

export function ConnectionPill() {
  const chat = useChat();
  const state = useStore(chat.connection);
  const open = state.status === 'open';
  const settled = useSettled(open);
  const now = useNow(500, !open);
  // What was announced is no blip.
  const announced = state.status === 'reconnecting' && state.reason === 'drain';
  const shown = !open && (settled || announced);
  return (
    <div className={styles.region} role="status">
      {shown && (
        <div className={styles.pill} data-status={state.status} data-testid="connection">
          {state.status === 'offline' ? (
            <Icon name="offline" size={16} />
          ) : (
            <span className={styles.pulse} aria-hidden="true" />
          )}
          {/* The seconds are for the eye; read out, they would interrupt twice a second. */}
          <span className="visually-hidden">
            {state.status === 'offline' ? 'You are offline' : 'Reconnecting'}
          </span>
          <span aria-hidden="true">{words(state, now)}</span>
          {(state.status === 'reconnecting' || state.status === 'offline') && (
            <button type="button" className={styles.retry} onClick={() => chat.client.realtime.retryNow()}>
              Try now
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** True once the connection has been away for longer than a blip. */
function useSettled(open: boolean): boolean {
  const [settled, setSettled] = useState(false);
  useEffect(() => {
    if (open) {
      setSettled(false);
      return;
    }
    const timer = setTimeout(() => setSettled(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [open]);
  return settled;
}
