// Changing the password, which also signs out every other device.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import { passwordHint } from '../auth/password';
import { useAuthForm } from '../auth/useAuthForm';
import { StackError } from '../../sdk';
import styles from './settings.module.css';

export function PasswordForm() {
  const chat = useChat();
  const [current, setCurrent] = useState('');
  const [next, setNext] = useState('');
  const form = useAuthForm(['current_password', 'new_password'], async () => {
    await chat.client.api.changePassword(current, next).catch((error: unknown) => {
      if (!(error instanceof StackError) || error.code !== 'invalid_credentials') throw error;
      throw new StackError('invalid_field', 'That is not your current password', {
        field: 'current_password',
      });
    });
    setCurrent('');
    setNext('');
    chat.toasts.show('Your password was changed. Other devices are signed out.');
  });
  return (
    <form className={styles.form} onSubmit={form.submit}>
      <p className={styles.muted}>Changing it signs you out everywhere else.</p>
      <FormError>{form.formError}</FormError>
      {/* Lets password managers know whose password this is. */}
      <input type="text" autoComplete="username" value={chat.me.get().username} readOnly hidden />
      <TextField
        label="Current password"
        type="password"
        autoComplete="current-password"
        required
        value={current}
        error={form.errorAt('current_password')}
        onChange={(event) => setCurrent(event.target.value)}
      />
      <TextField
        label="New password"
        type="password"
        autoComplete="new-password"
        required
        value={next}
        hint={passwordHint(next)}
        error={form.errorAt('new_password')}
        onChange={(event) => setNext(event.target.value)}
      />
      <div>
        <Button type="submit" variant="primary" busy={form.busy} disabled={current === '' || next === ''}>
          Change password
        </Button>
      </div>
    </form>
  );
}
