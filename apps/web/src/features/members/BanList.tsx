// Who is kept out of the room or silent in it, why, and ending that.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { useSelect } from '../../app/hooks';
import { longTime } from '../../lib/format';
import type { Ban, Room } from '../../sdk';
import { Avatar } from '../../ui/Avatar';
import { Button } from '../../ui/Button';
import { useName } from '../chat/names';
import type { Measure } from './BanDialog';
import styles from './members.module.css';

interface BanListProps {
  measure: Measure;
  room: Room;
  bans: readonly Ban[];
}

export function BanList({ measure, room, bans }: BanListProps) {
  if (bans.length === 0) return null;
  const title = measure === 'ban' ? 'Banned' : 'Muted';
  return (
    <section aria-label={title}>
      <h3 className={styles.groupTitle}>
        {title} <span className={styles.groupCount}>{bans.length}</span>
      </h3>
      <ul>
        {bans.map((ban) => (
          <BanRow key={ban.user_id} measure={measure} room={room} ban={ban} />
        ))}
      </ul>
    </section>
  );
}

function BanRow({ measure, room, ban }: { measure: Measure; room: Room; ban: Ban }) {
  const chat = useChat();
  const [busy, setBusy] = useState(false);
  const name = useName(ban.user_id);
  const by = useName(ban.by);
  const username = useSelect(chat.people.users, (users) => users.get(ban.user_id)?.username);
  const lift = () => {
    setBusy(true);
    const { client, people } = chat;
    const isBan = measure === 'ban';
    (isBan ? client.api.unban(room.id, ban.user_id) : client.api.unmute(room.id, ban.user_id))
      .then(() => {
        chat.toasts.show(`The ${measure} on ${name} was lifted.`);
        return isBan ? people.loadBans(room.id) : people.loadMutes(room.id);
      })
      .catch(chat.toasts.failed)
      .finally(() => setBusy(false));
  };
  return (
    <li className={styles.member} data-testid={`${measure}-${username}`}>
      <Avatar id={ban.user_id} name={name} size="s" />
      <span className={styles.text}>
        <span className={styles.name}>{name}</span>
        <span className={styles.meta} title={longTime(ban.created_at)}>
          By {by}
          {ban.expires_at !== undefined && `, until ${longTime(ban.expires_at)}`}
        </span>
        {ban.reason && <span className={styles.reason}>{ban.reason}</span>}
      </span>
      <Button
        size="s"
        variant="ghost"
        busy={busy}
        aria-label={`Lift the ${measure} on ${name}`}
        onClick={lift}
      >
        Lift
      </Button>
    </li>
  );
}
