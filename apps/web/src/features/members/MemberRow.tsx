// One member: who they are, what they are here, and when they were last seen.

import { useChat } from '../../app/context';
import { useStore } from '../../app/hooks';
import { ago, longTime } from '../../lib/format';
import type { Member, Room, RoomRole } from '../../sdk';
import type { Presence } from '../../state/presence';
import { Avatar } from '../../ui/Avatar';
import { MemberMenu } from './MemberMenu';
import styles from './members.module.css';
import { mayRemove } from './rights';

const ROLE_WORD: Record<RoomRole, string | null> = {
  owner: 'Owner',
  moderator: 'Moderator',
  member: null,
  guest: 'Guest',
};

interface MemberRowProps {
  member: Member;
  room: Room;
  presence: Presence | undefined;
  now: number;
}

export function MemberRow({ member, room, presence, now }: MemberRowProps) {
  const chat = useChat();
  const me = useStore(chat.me);
  const { user, role } = member;
  const self = user.id === me.id;
  const word = ROLE_WORD[role];
  const status = presence?.status ?? 'offline';
  const seen = Math.max(member.last_seen_at ?? 0, presence?.goneAt ?? 0);
  return (
    <li className={styles.member} data-status={status} data-testid={`member-${user.username}`}>
      <Avatar id={user.id} name={user.display_name} size="s" status={status} />
      <span className={styles.text}>
        <span className={styles.name}>
          {user.display_name}
          {self && <span className={styles.self}> (you)</span>}
        </span>
        <span className={styles.meta}>
          @{user.username}
          {word && <span className={styles.role}>{word}</span>}
        </span>
        {status === 'offline' && !self && seen > 0 && (
          <time className={styles.meta} dateTime={new Date(seen).toISOString()} title={longTime(seen)}>
            Last seen {ago(Math.min(seen, now), now)}
          </time>
        )}
      </span>
      {!self && mayRemove(room.role, role) && <MemberMenu member={member} room={room} />}
    </li>
  );
}
