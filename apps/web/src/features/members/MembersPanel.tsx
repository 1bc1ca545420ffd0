// Who is in the room, whether they are here, and, for those who may, their roles.

import { useCallback, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { useMedia, useSelect, useStore } from '../../app/hooks';
import type { Member, PresenceStatus, Room, RoomRole } from '../../sdk';
import { Avatar } from '../../ui/Avatar';
import { IconButton } from '../../ui/Button';
import { Confirm } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { Popover } from '../../ui/Popover';
import popover from '../../ui/popover.module.css';
import styles from './members.module.css';

const ROLE_WORD: Record<RoomRole, string | null> = {
  owner: 'Owner',
  moderator: 'Moderator',
  member: null,
  guest: 'Guest',
};

export function MembersPanel({ room, onClose }: { room: Room; onClose(): void }) {
  const chat = useChat();
  const members = useSelect(chat.people.members, (map) => map.get(room.id)) ?? [];
  const presence = useSelect(chat.presence.rooms, (rooms) => rooms.get(room.id)?.users);
  const overlay = useMedia('(max-width: 1099px)');
  const statusOf = (id: string): PresenceStatus => presence?.get(id)?.status ?? 'offline';
  const here = members.filter((member) => statusOf(member.user.id) !== 'offline');
  const away = members.filter((member) => statusOf(member.user.id) === 'offline');
  return (
    <aside
      className={styles.panel}
      aria-label="Members"
      onKeyDown={(event) => {
        if (event.key === 'Escape' && overlay) onClose();
      }}
    >
      <header className={styles.header}>
        <h2 className={styles.title}>Members</h2>
        <IconButton icon="close" label="Close members" size="s" onClick={onClose} />
      </header>
      <div className={styles.lists}>
        <Group title="Here" members={here} room={room} statusOf={statusOf} />
        <Group title="Away from the room" members={away} room={room} statusOf={statusOf} />
      </div>
    </aside>
  );
}

interface GroupProps {
  title: string;
  members: readonly Member[];
  room: Room;
  statusOf(id: string): PresenceStatus;
}

function Group({ title, members, room, statusOf }: GroupProps) {
  if (members.length === 0) return null;
  return (
    <section>
      <h3 className={styles.groupTitle}>
        {title} <span className={styles.groupCount}>{members.length}</span>
      </h3>
      <ul>
        {members.map((member) => (
          <MemberRow key={member.user.id} member={member} room={room} status={statusOf(member.user.id)} />
        ))}
      </ul>
    </section>
  );
}

function MemberRow({ member, room, status }: { member: Member; room: Room; status: PresenceStatus }) {
  const chat = useChat();
  const me = useStore(chat.me);
  const { user, role } = member;
  const self = user.id === me.id;
  const word = ROLE_WORD[role];
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
      </span>
      {!self && room.role === 'owner' && <MemberMenu member={member} room={room} />}
    </li>
  );
}

function MemberMenu({ member, room }: { member: Member; room: Room }) {
  const chat = useChat();
  const [open, setOpen] = useState(false);
  const [removing, setRemoving] = useState(false);
  const anchor = useRef<HTMLButtonElement>(null);
  const close = useCallback(() => setOpen(false), []);
  const { user } = member;
  const refresh = () => chat.people.loadMembers(room.id);
  const become = (role: RoomRole) => {
    setOpen(false);
    chat.client.api.putMember(room.id, user.id, role).then(refresh).catch(chat.toasts.failed);
  };
  const roles: [RoomRole, string][] = [
    ['owner', 'Make owner'],
    ['moderator', 'Make moderator'],
    ['member', 'Make member'],
  ];
  return (
    <>
      <IconButton
        ref={anchor}
        icon="more"
        size="s"
        label={`Manage ${user.display_name}`}
        aria-haspopup="menu"
        aria-expanded={open}
        className={styles.manage}
        onClick={() => setOpen(!open)}
      />
      {open && (
        <Popover anchor={anchor} role="menu" label={`Manage ${user.display_name}`} onClose={close}>
          {roles
            .filter(([role]) => role !== member.role)
            .map(([role, label]) => (
              <button
                key={role}
                type="button"
                role="menuitem"
                className={popover.item}
                onClick={() => become(role)}
              >
                <Icon name="user" size={18} />
                {label}
              </button>
            ))}
          <div className={popover.divider} />
          <button
            type="button"
            role="menuitem"
            className={popover.item}
            data-danger
            onClick={() => {
              setOpen(false);
              setRemoving(true);
            }}
          >
            <Icon name="close" size={18} />
            Remove from room
          </button>
        </Popover>
      )}
      {removing && (
        <Confirm
          title={`Remove ${user.display_name}?`}
          text="They will no longer see this room's messages as a member."
          action="Remove"
          onConfirm={() =>
            void chat.client.api.deleteMember(room.id, user.id).then(refresh).catch(chat.toasts.failed)
          }
          onClose={() => setRemoving(false)}
        />
      )}
    </>
  );
}
