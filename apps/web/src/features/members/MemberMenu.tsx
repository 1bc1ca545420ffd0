// What can be done with a member: another role, removing, banning.

import { useCallback, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import type { Member, Room, RoomRole } from '../../sdk';
import { IconButton } from '../../ui/Button';
import { Confirm } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { Popover } from '../../ui/Popover';
import popover from '../../ui/popover.module.css';
import { BanDialog, type Measure } from './BanDialog';
import styles from './members.module.css';
import { rolesToGive } from './rights';

export function MemberMenu({ member, room }: { member: Member; room: Room }) {
  const chat = useChat();
  const [open, setOpen] = useState(false);
  const [dialog, setDialog] = useState<'remove' | Measure | null>(null);
  const anchor = useRef<HTMLButtonElement>(null);
  const close = useCallback(() => setOpen(false), []);
  const { user } = member;
  const label = `Manage ${user.display_name}`;
  const done = () => {
    setOpen(false);
    anchor.current?.focus();
  };
  const become = (role: RoomRole) => {
    done();
    chat.client.api
      .putMember(room.id, user.id, role)
      .then(() => chat.people.loadMembers(room.id))
      .catch(chat.toasts.failed);
  };
  const ask = (next: 'remove' | Measure) => {
    done();
    setDialog(next);
  };
  const remove = () => {
    chat.client.api
      .deleteMember(room.id, user.id)
      .then(() => chat.people.loadMembers(room.id))
      .catch(chat.toasts.failed);
  };
  return (
    <>
      <IconButton
        ref={anchor}
        icon="more"
        size="s"
        label={label}
        aria-haspopup="menu"
        aria-expanded={open}
        className={styles.manage}
        onClick={() => setOpen(!open)}
      />
      {open && (
        <Popover anchor={anchor} role="menu" label={label} onClose={close}>
          {rolesToGive(room.role, member.role).map((role) => (
            <button
              key={role}
              type="button"
              role="menuitem"
              className={popover.item}
              onClick={() => become(role)}
            >
              <Icon name="user" size={18} />
              Make {role}
            </button>
          ))}
          <div className={popover.divider} />
          <button
            type="button"
            role="menuitem"
            className={popover.item}
            data-danger
            onClick={() => ask('mute')}
          >
            <Icon name="mute" size={18} />
            Mute in room
          </button>
          <button
            type="button"
            role="menuitem"
            className={popover.item}
            data-danger
            onClick={() => ask('remove')}
          >
            <Icon name="close" size={18} />
            Remove from room
          </button>
          <button
            type="button"
            role="menuitem"
            className={popover.item}
            data-danger
            onClick={() => ask('ban')}
          >
            <Icon name="ban" size={18} />
            Ban from room
          </button>
        </Popover>
      )}
      {dialog === 'remove' && (
        <Confirm
          title={`Remove ${user.display_name}?`}
          text={
            room.settings.public
              ? 'They leave the room at once, and may join it again. To keep them out, ban them.'
              : 'They leave the room at once, and no longer see it.'
          }
          action="Remove"
          onConfirm={remove}
          onClose={() => setDialog(null)}
        />
      )}
      {(dialog === 'ban' || dialog === 'mute') && (
        <BanDialog measure={dialog} user={user} room={room} onClose={() => setDialog(null)} />
      )}
    </>
  );
}
