// Who is kept out of the room, why, and letting them in again.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { useSelect } from '../../app/hooks';
import { longTime } from '../../lib/format';
import type { Ban, Room } from '../../sdk';
import { Avatar } from '../../ui/Avatar';
import { Button } from '../../ui/Button';
import { useName } from '../chat/names';
import styles from './members.module.css';

export function BanList({ room, bans }: { room: Room; bans: readonly Ban[] }) {
  if (bans.length === 0) return null;
  return (
    <section aria-label="Banned">
      <h3 className={styles.groupTitle}>
        Banned <span className={styles.groupCount}>{bans.length}</span>
      </h3>
      <ul>
        {bans.map((ban) => (
          <BanRow key={ban.user_id} room={room} ban={ban} />
        ))}
      </ul>
    </section>
  );
}

function BanRow({ room, ban }: { room: Room; ban: Ban }) {
  const chat = useChat();
  const [busy, setBusy] = useState(false);
  const name = useName(ban.user_id);
  const by = useName(ban.by);
  const username = useSelect(chat.people.users, (users) => users.get(ban.user_id)?.username);
  const lift = () => {
    setBusy(true);
    chat.client.api
      .unban(room.id, ban.user_id)
      .then(() => {
        chat.toasts.show(`The ban on ${name} was lifted.`);
        return chat.people.loadBans(room.id);
      })
      .catch(chat.toasts.failed)
      .finally(() => setBusy(false));
  };
  return (
    <li className={styles.member} data-testid={`ban-${username}`}>
      <Avatar id={ban.user_id} name={name} size="s" />
      <span className={styles.text}>
        <span className={styles.name}>{name}</span>
        <span className={styles.meta} title={longTime(ban.created_at)}>
          By {by}
          {ban.expires_at !== undefined && `, until ${longTime(ban.expires_at)}`}
        </span>
        {ban.reason && <span className={styles.reason}>{ban.reason}</span>}
      </span>
      <Button size="s" variant="ghost" busy={busy} aria-label={`Lift the ban on ${name}`} onClick={lift}>
        Lift
      </Button>
    </li>
  );
}
