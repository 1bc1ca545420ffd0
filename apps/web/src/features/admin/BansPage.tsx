// Who is kept out: of the server, by a disabled account, and of single rooms, by a ban.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { useSelect } from '../../app/hooks';
import { longTime } from '../../lib/format';
import { type AdminUser, type Ban, type Room, StackError } from '../../sdk';
import { Avatar } from '../../ui/Avatar';
import { Button } from '../../ui/Button';
import { Spinner } from '../../ui/Misc';
import { useName } from '../chat/names';
import { Failed } from '../security/PasskeyList';
import { Section } from '../security/Section';
import security from '../security/security.module.css';
import { useLoaded } from '../security/useLoaded';
import styles from './admin.module.css';

interface RoomBans {
  room: Room;
  bans: Ban[];
}

export function BansPage() {
  const chat = useChat();
  const { admin, api } = chat.client;
  const [loadDisabled] = useState(() => async () => {
    const disabled: AdminUser[] = [];
    let after: string | undefined;
    do {
      const page = await admin.users({ limit: PAGE, ...(after ? { after } : {}) });
      disabled.push(...page.filter((user) => user.disabled));
      after = page.length === PAGE ? page.at(-1)?.id : undefined;
    } while (after !== undefined);
    return disabled;
  });
  const [loadRooms] = useState(() => async () => {
    const rooms = await api.rooms();
    const bansOf = async (room: Room) => ({ room, bans: await api.bans(room.id).catch(notMine) });
    const all = await Promise.all(rooms.map(bansOf));
    const banned = all.filter(({ bans }) => bans.length > 0);
    for (const { bans } of banned) for (const ban of bans) chat.people.need(ban.user_id);
    return banned;
  });
  const [disabled, reloadDisabled] = useLoaded(loadDisabled);
  const [rooms, reloadRooms] = useLoaded(loadRooms);
  const enable = (user: AdminUser) => {
    admin.updateUser(user.id, { disabled: false }).then(() => {
      chat.toasts.show(`${user.display_name} may come in again.`);
      reloadDisabled();
    }, chat.toasts.failed);
  };
  return (
    <div className={security.sections}>
      <Section
        title="Out of the server"
        lead="Disabled accounts. They cannot sign in, and their sessions have ended. Disable one under People."
      >
        {disabled.status === 'loading' && <Spinner label="Loading" />}
        {disabled.status === 'failed' && <Failed what="The list" again={reloadDisabled} />}
        {disabled.status === 'ready' && disabled.value.length === 0 && (
          <p className={styles.none}>Nobody is shut out.</p>
        )}
        {disabled.status === 'ready' && disabled.value.length > 0 && (
          <ul className={styles.list}>
            {disabled.value.map((user) => (
              <li key={user.id} className={styles.row}>
                <Avatar id={user.id} name={user.display_name} />
                <span className={styles.rowText}>
                  <span className={styles.rowName}>{user.display_name}</span>
                  <span className={styles.rowMeta}>@{user.username}</span>
                </span>
                <Button size="s" aria-label={`Enable ${user.display_name}`} onClick={() => enable(user)}>
                  Enable
                </Button>
              </li>
            ))}
          </ul>
        )}
      </Section>
      <Section
        title="Out of rooms"
        lead="Of the rooms that you look after. Ban people in a room's list of members."
      >
        {rooms.status === 'loading' && <Spinner label="Loading" />}
        {rooms.status === 'failed' && <Failed what="The bans" again={reloadRooms} />}
        {rooms.status === 'ready' && rooms.value.length === 0 && (
          <p className={styles.none}>Nobody is banned from any room.</p>
        )}
        {rooms.status === 'ready' &&
          rooms.value.map((entry) => (
            <RoomSection key={entry.room.id} entry={entry} onChanged={reloadRooms} />
          ))}
      </Section>
    </div>
  );
}

const PAGE = 200;

/** A room whose bans are not for the caller has none to show. */
function notMine(error: unknown): Ban[] {
  if (error instanceof StackError && error.code === 'forbidden') return [];
  throw error;
}

function RoomSection({ entry, onChanged }: { entry: RoomBans; onChanged(): void }) {
  return (
    <div>
      <h3 className={styles.group}>{entry.room.title}</h3>
      <ul className={styles.list}>
        {entry.bans.map((ban) => (
          <BanRow key={ban.user_id} ban={ban} room={entry.room} onChanged={onChanged} />
        ))}
      </ul>
    </div>
  );
}

function BanRow({ ban, room, onChanged }: { ban: Ban; room: Room; onChanged(): void }) {
  const chat = useChat();
  const name = useName(ban.user_id);
  const by = useName(ban.by);
  const username = useSelect(chat.people.users, (users) => users.get(ban.user_id)?.username);
  const lift = () => {
    chat.client.api.unban(room.id, ban.user_id).then(() => {
      chat.toasts.show(`The ban on ${name} was lifted.`);
      onChanged();
    }, chat.toasts.failed);
  };
  return (
    <li className={styles.row} data-testid={`ban-${username}`}>
      <Avatar id={ban.user_id} name={name} />
      <span className={styles.rowText}>
        <span className={styles.rowName}>{name}</span>
        <span className={styles.rowMeta}>
          By {by}
          {ban.expires_at !== undefined && `, until ${longTime(ban.expires_at)}`}
        </span>
        {ban.reason && <span className={styles.rowMeta}>{ban.reason}</span>}
      </span>
      <Button size="s" aria-label={`Lift the ban on ${name}`} onClick={lift}>
        Lift
      </Button>
    </li>
  );
}
