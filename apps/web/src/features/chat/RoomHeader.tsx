// The room's name, who is here, and what can be done with it.

import { useCallback, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { useSelect } from '../../app/hooks';
import { navigate, paths } from '../../app/router';
import type { Room } from '../../sdk';
import { IconButton } from '../../ui/Button';
import { Confirm } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { Popover } from '../../ui/Popover';
import popover from '../../ui/popover.module.css';
import { managesMembers } from '../members/rights';
import { BackLink } from '../rooms/PageHeader';
import { RoomSettingsDialog } from '../rooms/RoomSettingsDialog';
import styles from './chat.module.css';

interface RoomHeaderProps {
  room: Room;
  membersShown: boolean;
  onToggleMembers(): void;
  onAddPeople(): void;
}

export function RoomHeader({ room, membersShown, onToggleMembers, onAddPeople }: RoomHeaderProps) {
  const chat = useChat();
  const members = useSelect(chat.people.members, (map) => map.get(room.id));
  const presence = useSelect(chat.presence.rooms, (rooms) => rooms.get(room.id)?.users);
  const here = members?.filter(
    ({ user }) => (presence?.get(user.id)?.status ?? 'offline') !== 'offline',
  ).length;
  return (
    <header className={styles.header}>
      <BackLink />
      <span className={styles.headerIcon}>
        <Icon name={room.settings.public ? 'hash' : 'lock'} />
      </span>
      <div className={styles.headerText}>
        <h1 className={styles.headerTitle}>{room.title}</h1>
        {members !== undefined && (
          <p className={styles.headerMeta}>
            {members.length} {members.length === 1 ? 'member' : 'members'}
            {here !== undefined && here > 0 && (
              <>
                {' · '}
                <span className={styles.here}>{here} here</span>
              </>
            )}
          </p>
        )}
      </div>
      <IconButton
        icon="users"
        label={membersShown ? 'Hide members' : 'Show members'}
        aria-pressed={membersShown}
        onClick={onToggleMembers}
      />
      {room.role !== null && <RoomMenu room={room} onAddPeople={onAddPeople} />}
    </header>
  );
}

function RoomMenu({ room, onAddPeople }: { room: Room; onAddPeople(): void }) {
  const chat = useChat();
  const [open, setOpen] = useState(false);
  const [dialog, setDialog] = useState<'settings' | 'leave' | null>(null);
  const anchor = useRef<HTMLButtonElement>(null);
  const close = useCallback(() => setOpen(false), []);
  const choose = (next: 'settings' | 'leave') => {
    setOpen(false);
    setDialog(next);
  };
  const leave = () => {
    chat.leaveRoom(room.id).then(() => navigate(paths.home), chat.toasts.failed);
  };
  return (
    <>
      <IconButton
        ref={anchor}
        icon="more"
        label="Room menu"
        aria-haspopup="menu"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      />
      {open && (
        <Popover anchor={anchor} role="menu" label="Room menu" onClose={close}>
          {managesMembers(room.role) && (
            <button
              type="button"
              role="menuitem"
              className={popover.item}
              onClick={() => {
                setOpen(false);
                onAddPeople();
              }}
            >
              <Icon name="userPlus" size={18} />
              Add people
            </button>
          )}
          {room.role === 'owner' && (
            <button type="button" role="menuitem" className={popover.item} onClick={() => choose('settings')}>
              <Icon name="sliders" size={18} />
              Room settings
            </button>
          )}
          <button
            type="button"
            role="menuitem"
            className={popover.item}
            data-danger
            onClick={() => choose('leave')}
          >
            <Icon name="signout" size={18} />
            Leave room
          </button>
        </Popover>
      )}
      {dialog === 'settings' && <RoomSettingsDialog room={room} onClose={() => setDialog(null)} />}
      {dialog === 'leave' && (
        <Confirm
          title={`Leave ${room.title}?`}
          text={
            room.settings.public
              ? 'You can join again whenever you like.'
              : 'Only somebody inside can let you in again.'
          }
          action="Leave room"
          onConfirm={leave}
          onClose={() => setDialog(null)}
        />
      )}
    </>
  );
}
