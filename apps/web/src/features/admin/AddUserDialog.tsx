// An account that an administrator makes for somebody, and the link with which they set their password.

import { useState } from 'react';
import { useChat } from '../../app/context';
import type { User } from '../../sdk';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, Select, TextField } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import { CopyField } from '../security/CopyField';
import security from '../security/security.module.css';

const ROLES = [
  { value: 'member', label: 'Member' },
  { value: 'admin', label: 'Administrator' },
] as const;

export function AddUserDialog({ onClose, onDone }: { onClose(): void; onDone(): void }) {
  const chat = useChat();
  const [name, setName] = useState('');
  const [username, setUsername] = useState('');
  const [email, setEmail] = useState('');
  const [url, setUrl] = useState<string | null>(null);
  const [role, setRole] = useState<User['role']>('member');
  const form = useAuthForm(['display_name', 'username', 'email'], async () => {
    const made = await chat.client.admin.createUser({
      username: username.trim(),
      role,
      ...(name.trim() ? { display_name: name.trim() } : {}),
      ...(email.trim() ? { email: email.trim() } : {}),
    });
    setUrl(made.url);
    onDone();
  });
  if (url !== null) {
    return (
      <Dialog title={`@${username.trim()} has an account`} onClose={onClose}>
        <div className={security.question}>
          <p className={security.text}>
            Give them this link, and nobody else: with it they choose a password and come in. It works once,
            for half an hour; later, make another one from their menu.
          </p>
          <CopyField label="Link" value={url} />
          <DialogActions>
            <Button variant="primary" onClick={onClose}>
              Done
            </Button>
          </DialogActions>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title="Add somebody" onClose={onClose}>
      <form className={security.question} onSubmit={form.submit} autoComplete="off">
        <FormError>{form.formError}</FormError>
        <TextField
          label="Their name"
          maxLength={64}
          autoComplete="off"
          value={name}
          error={form.errorAt('display_name')}
          onChange={(event) => setName(event.target.value)}
        />
        <TextField
          label="Username"
          prefix="@"
          required
          autoCapitalize="none"
          autoComplete="off"
          spellCheck={false}
          value={username}
          error={form.errorAt('username')}
          onChange={(event) => setUsername(event.target.value)}
        />
        <TextField
          label="E-mail"
          type="email"
          autoComplete="off"
          hint="Optional."
          value={email}
          error={form.errorAt('email')}
          onChange={(event) => setEmail(event.target.value)}
        />
        <Select label="Role" value={role} options={ROLES} onChange={setRole} />
        <DialogActions>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" variant="primary" busy={form.busy} disabled={username.trim() === ''}>
            Add
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
