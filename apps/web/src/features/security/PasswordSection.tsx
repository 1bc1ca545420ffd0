// Changing the password, or setting the first one. Either signs out every other device.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import { LEAST_WITH_FACTOR, passwordHint } from '../auth/password';
import { useFacts } from '../auth/facts';
import { useAuthForm } from '../auth/useAuthForm';
import settings from '../settings/settings.module.css';
import { Section } from './Section';
import { useLoaded } from './useLoaded';

export function PasswordSection() {
  const chat = useChat();
  const { registration } = useFacts();
  const [load] = useState(() => () => chat.client.auth.totp());
  const [factor] = useLoaded(load);
  const least =
    factor.status === 'ready' && factor.value.enabled ? LEAST_WITH_FACTOR : registration.password.min_chars;
  const [current, setCurrent] = useState('');
  const [next, setNext] = useState('');
  const form = useAuthForm(['current_password', 'new_password'], async () => {
    await chat.client.auth.changePassword(next, current || undefined).catch((error: unknown) => {
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
    <Section title="Password" lead="Changing it signs you out everywhere else.">
      <form className={settings.form} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        {/* Lets password managers know whose password this is. */}
        <input type="text" autoComplete="username" value={chat.me.get().username} readOnly hidden />
        <TextField
          label="Current password"
          type="password"
          autoComplete="current-password"
          hint="Leave it empty if there is none."
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
          hint={passwordHint(next, least)}
          error={form.errorAt('new_password')}
          onChange={(event) => setNext(event.target.value)}
        />
        <div>
          <Button type="submit" busy={form.busy} disabled={next === ''}>
            Change password
          </Button>
        </div>
      </form>
    </Section>
  );
}
