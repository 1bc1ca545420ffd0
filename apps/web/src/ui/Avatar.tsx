// A person as two letters on a colour that is always theirs, with an optional dot for presence.

import type { PresenceStatus } from '../sdk';
import { hueOf, initials } from '../lib/identity';
import styles from './avatar.module.css';

interface AvatarProps {
  id: string;
  name: string;
  size?: 'xs' | 's' | 'm' | 'l';
  status?: PresenceStatus | undefined;
}

const STATUS_WORD: Record<PresenceStatus, string> = {
  online: 'online',
  away: 'away',
  busy: 'busy',
  offline: 'offline',
};

export function Avatar({ id, name, size = 'm', status }: AvatarProps) {
  return (
    <span className={`${styles.avatar} ${styles[size]}`} data-hue={hueOf(id)}>
      <span aria-hidden="true">{initials(name)}</span>
      {status !== undefined && (
        <span className={styles.dot} data-status={status}>
          <span className="visually-hidden">{STATUS_WORD[status]}</span>
        </span>
      )}
    </span>
  );
}
