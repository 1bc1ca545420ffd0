// Bringing somebody into the room by their username; the field stays, for the next one.

import { useEffect, useId, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { type Room, StackError, type User } from '../../sdk';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import styles from './members.module.css';

type Role = 'member' | 'guest';

/** An error that belongs at the field, in words of ours. */
function atField(text: string): StackError {
  return new StackError('invalid_field', text, { field: 'username' });
}

export function AddPeople({ room, onClose }: { room: Room; onClose(): void }) {
  const chat = useChat();
  const [username, setUsername] = useState('');
  const [role, setRole] = useState<Role>('member');
  const [added, setAdded] = useState('');
  const field = useRef<HTMLInputElement>(null);
  const roleId = useId();
  // Opened on purpose, whether by the button here or from the room's menu.
  useEffect(() => field.current?.focus(), []);

  const bringIn = async (user: User) => {
    try {
      await chat.client.api.putMember(room.id, user.id, role);
    } catch (error) {
      if (!(error instanceof StackError) || error.code !== 'conflict') throw error;
      throw atField(`${user.display_name} is banned here. Lift the ban first.`);
    }
  };
  const add = async () => {
    const [user] = await Promise.all([chat.people.find(username), chat.people.loadMembers(room.id)]);
    if (user === null) throw atField('Nobody here has this username.');
    const members = chat.people.members.get().get(room.id);
    if (members?.some((member) => member.user.id === user.id)) {
      throw atField(
        user.id === chat.me.get().id
          ? 'You are in the room already.'
          : `${user.display_name} is in the room already.`,
      );
    }
    await bringIn(user);
    setAdded(`${user.display_name} was added${role === 'guest' ? ' as a guest' : ''}.`);
    setUsername('');
    await chat.people.loadMembers(room.id).catch(() => {});
  };
  const form = useAuthForm(['username'], () => {
    setAdded('');
    // The button cannot keep the focus while it is busy.
    return add().finally(() => field.current?.focus());
  });
  return (
    <form
      className={styles.addForm}
      aria-label="Add people"
      onSubmit={form.submit}
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return;
        // Esc closes this alone, not the panel around it.
        event.stopPropagation();
        onClose();
      }}
    >
      <FormError>{form.formError}</FormError>
      <TextField
        ref={field}
        label="Add people"
        prefix="@"
        placeholder="username"
        required
        autoComplete="off"
        autoCapitalize="none"
        spellCheck={false}
        maxLength={33}
        value={username}
        error={form.errorAt('username')}
        onChange={(event) => {
          setUsername(event.target.value);
          setAdded('');
        }}
      />
      <div className={styles.addRow}>
        <label htmlFor={roleId} className="visually-hidden">
          Role
        </label>
        <select
          id={roleId}
          className={styles.addRole}
          value={role}
          onChange={(event) => setRole(event.target.value as Role)}
        >
          <option value="member">As member</option>
          <option value="guest">As guest</option>
        </select>
        <Button size="s" variant="ghost" onClick={onClose}>
          Done
        </Button>
        <Button type="submit" size="s" variant="primary" busy={form.busy} disabled={username.trim() === ''}>
          Add
        </Button>
      </div>
      <p role="status" className={styles.added}>
        {added || (role === 'guest' ? 'Guests read along and do not write.' : '')}
      </p>
    </form>
  );
}
