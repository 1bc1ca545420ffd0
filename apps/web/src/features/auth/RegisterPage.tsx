// Making an account. The password's length is shown while it grows, the rest is for the server to judge.

import { useState } from 'react';
import { useSession } from '../../app/context';
import { Link, paths } from '../../app/router';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import { AuthLayout } from './AuthLayout';
import styles from './auth.module.css';
import { passwordHint } from './password';
import { useAuthForm } from './useAuthForm';

export function RegisterPage() {
  const session = useSession();
  const [displayName, setDisplayName] = useState('');
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const form = useAuthForm(['username', 'password', 'display_name'], () =>
    session.register({
      username: username.trim(),
      password,
      ...(displayName.trim() === '' ? {} : { display_name: displayName.trim() }),
    }),
  );
  return (
    <AuthLayout title="Create your account" lead="It takes a name and a password, nothing else.">
      <form className={styles.form} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <TextField
          label="Your name"
          name="name"
          autoComplete="name"
          autoFocus
          maxLength={64}
          placeholder="Ada Lovelace"
          value={displayName}
          error={form.errorAt('display_name')}
          onChange={(event) => setDisplayName(event.target.value)}
        />
        <TextField
          label="Username"
          name="username"
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          required
          prefix="@"
          placeholder="ada"
          value={username}
          error={form.errorAt('username')}
          onChange={(event) => setUsername(event.target.value)}
        />
        <TextField
          label="Password"
          name="password"
          type="password"
          autoComplete="new-password"
          required
          value={password}
          hint={passwordHint(password)}
          error={form.errorAt('password')}
          onChange={(event) => setPassword(event.target.value)}
        />
        <Button type="submit" variant="primary" busy={form.busy}>
          Create account
        </Button>
      </form>
      <p className={styles.other}>
        Have an account? <Link to={paths.signin}>Sign in</Link>
      </p>
    </AuthLayout>
  );
}
