// What can be done with an account: its role, a way back in, switching it off and on.

import { useCallback, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { useStore } from '../../app/hooks';
import { type AdminUser, StackError } from '../../sdk';
import { IconButton } from '../../ui/Button';
import { Confirm } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { Popover } from '../../ui/Popover';
import popover from '../../ui/popover.module.css';
import { RecoveryDialog } from './RecoveryDialog';

export function UserMenu({ user, onChanged }: { user: AdminUser; onChanged(): void }) {
  const chat = useChat();
  const me = useStore(chat.me);
  const [open, setOpen] = useState(false);
  const [dialog, setDialog] = useState<'promote' | 'disable' | 'erase' | 'recover' | null>(null);
  const anchor = useRef<HTMLButtonElement>(null);
  const close = useCallback(() => setOpen(false), []);
  const label = `Manage ${user.display_name}`;
  const person = user.kind === 'person';
  const change = (body: { disabled?: boolean; role?: AdminUser['role'] }, said: string) => {
    chat.client.admin.updateUser(user.id, body).then(
      () => {
        chat.toasts.show(said);
        onChanged();
      },
      (error: unknown) => {
        if (error instanceof StackError && error.code === 'conflict')
          chat.toasts.show('The last administrator stays one.', 'danger');
        else chat.toasts.failed(error);
      },
    );
  };
  const pick = (run: () => void) => () => {
    setOpen(false);
    anchor.current?.focus();
    run();
  };
  const name = user.display_name;
  return (
    <>
      <IconButton
        ref={anchor}
        icon="more"
        size="s"
        label={label}
        aria-haspopup="menu"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      />
      {open && (
        <Popover anchor={anchor} role="menu" label={label} onClose={close}>
          {person && user.role === 'member' && (
            <button
              type="button"
              role="menuitem"
              className={popover.item}
              onClick={pick(() => setDialog('promote'))}
            >
              <Icon name="shield" size={18} />
              Make administrator
            </button>
          )}
          {person && user.role === 'admin' && (
            <button
              type="button"
              role="menuitem"
              className={popover.item}
              onClick={pick(() => change({ role: 'member' }, `${name} is a member now.`))}
            >
              <Icon name="user" size={18} />
              Make member
            </button>
          )}
          {person && (
            <button
              type="button"
              role="menuitem"
              className={popover.item}
              onClick={pick(() => setDialog('recover'))}
            >
              <Icon name="key" size={18} />
              Recovery link
            </button>
          )}
          {person && <div className={popover.divider} />}
          {user.disabled ? (
            <button
              type="button"
              role="menuitem"
              className={popover.item}
              onClick={pick(() => change({ disabled: false }, `${name} may come in again.`))}
            >
              <Icon name="check" size={18} />
              Enable account
            </button>
          ) : (
            <button
              type="button"
              role="menuitem"
              className={popover.item}
              data-danger
              disabled={user.id === me.id}
              onClick={pick(() => setDialog('disable'))}
            >
              <Icon name="ban" size={18} />
              Disable account
            </button>
          )}
          <button
            type="button"
            role="menuitem"
            className={popover.item}
            data-danger
            onClick={pick(() => setDialog('erase'))}
          >
            <Icon name="trash" size={18} />
            Erase messages
          </button>
        </Popover>
      )}
      {dialog === 'promote' && (
        <Confirm
          title={`Make ${name} an administrator?`}
          text="Administrators can do everything here: manage every account and room, make keys, read the audit log."
          action="Make administrator"
          onConfirm={() => change({ role: 'admin' }, `${name} is an administrator now.`)}
          onClose={() => setDialog(null)}
        />
      )}
      {dialog === 'disable' && (
        <Confirm
          title={`Disable ${name}?`}
          text="They are signed out everywhere at once and cannot come back until you enable the account. What they said stays."
          action="Disable"
          onConfirm={() => change({ disabled: true }, `${name} is shut out.`)}
          onClose={() => setDialog(null)}
        />
      )}
      {dialog === 'erase' && (
        <Confirm
          title={`Erase what ${name} has said?`}
          text="Every message, edit and reaction of theirs, in every room, is gone for everyone. The account stays. This cannot be undone."
          action="Erase messages"
          onConfirm={() => {
            chat.client.admin.eraseMessages(user.id).then(
              () => chat.toasts.show(`What ${name} has said is being erased.`),
              chat.toasts.failed,
            );
          }}
          onClose={() => setDialog(null)}
        />
      )}
      {dialog === 'recover' && <RecoveryDialog user={user} onClose={() => setDialog(null)} />}
    </>
  );
}
