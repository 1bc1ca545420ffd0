// Who is in the room and whether they are here; for those who manage it, bringing people in and keeping them out.

import { useEffect, useRef } from 'react';
import { useChat } from '../../app/context';
import { useMedia, useNow, useSelect } from '../../app/hooks';
import type { Member, Room } from '../../sdk';
import type { Presence } from '../../state/presence';
import { Button, IconButton } from '../../ui/Button';
import { Icon } from '../../ui/Icon';
import { AddPeople } from './AddPeople';
import { BanList } from './BanList';
import { MemberRow } from './MemberRow';
import styles from './members.module.css';
import { managesMembers } from './rights';
import { useKeptFocus } from './useKeptFocus';

interface MembersPanelProps {
  room: Room;
  /** How often the form for adding people was opened, or 0 while it is closed. */
  adding: number;
  onAdding(open: boolean): void;
  onClose(): void;
}

export function MembersPanel({ room, adding, onAdding, onClose }: MembersPanelProps) {
  const chat = useChat();
  const members = useSelect(chat.people.members, (map) => map.get(room.id));
  const presence = useSelect(chat.presence.rooms, (rooms) => rooms.get(room.id)?.users);
  const bans = useSelect(chat.people.bans, (map) => map.get(room.id));
  const mutes = useSelect(chat.people.mutes, (map) => map.get(room.id));
  const overlay = useMedia('(max-width: 1099px)');
  const now = useNow(60_000, true);
  const panel = useRef<HTMLElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const manages = managesMembers(room.role);
  useKeptFocus(panel, members, bans, mutes);
  useEffect(() => {
    if (!manages) return;
    chat.people.loadBans(room.id).catch(() => {});
    chat.people.loadMutes(room.id).catch(() => {});
  }, [chat, room.id, manages]);

  const presenceOf = (id: string) => presence?.get(id);
  const isHere = ({ user }: Member) => (presenceOf(user.id)?.status ?? 'offline') !== 'offline';
  const all = members ?? [];
  const group = { room, presenceOf, now };
  return (
    <aside
      ref={panel}
      className={styles.panel}
      aria-label="Members"
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key === 'Escape' && overlay) onClose();
      }}
    >
      <header className={styles.header}>
        <h2 className={styles.title}>Members</h2>
        <IconButton icon="close" label="Close members" size="s" onClick={onClose} />
      </header>
      {manages && adding > 0 && (
        <AddPeople
          key={adding}
          room={room}
          onClose={() => {
            onAdding(false);
            // The button comes back with the next drawing.
            requestAnimationFrame(() => opener.current?.focus());
          }}
        />
      )}
      <div className={styles.lists}>
        {manages && adding === 0 && (
          <Button ref={opener} size="s" className={styles.add} onClick={() => onAdding(true)}>
            <Icon name="userPlus" size={18} />
            Add people
          </Button>
        )}
        <Group title="Here" members={all.filter(isHere)} {...group} />
        <Group title="Away from the room" members={all.filter((member) => !isHere(member))} {...group} />
        {manages && mutes !== undefined && <BanList measure="mute" room={room} bans={mutes} />}
        {manages && bans !== undefined && <BanList measure="ban" room={room} bans={bans} />}
      </div>
    </aside>
  );
}

interface GroupProps {
  title: string;
  members: readonly Member[];
  room: Room;
  presenceOf(id: string): Presence | undefined;
  now: number;
}

function Group({ title, members, room, presenceOf, now }: GroupProps) {
  if (members.length === 0) return null;
  return (
    <section>
      <h3 className={styles.groupTitle}>
        {title} <span className={styles.groupCount}>{members.length}</span>
      </h3>
      <ul>
        {members.map((member) => (
          <MemberRow
            key={member.user.id}
            member={member}
            room={room}
            presence={presenceOf(member.user.id)}
            now={now}
          />
        ))}
      </ul>
    </section>
  );
}
