// Signing in with a username or e-mail address and a password.

import { useState } from 'react';
import { useSession } from '../../app/context';
import { Link, paths } from '../../app/router';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import { AuthLayout } from './AuthLayout';
import styles from './auth.module.css';
import { useAuthForm } from './useAuthForm';

export function SignInPage({ ended }: { ended: boolean }) {
  const session = useSession();
  const [login, setLogin] = useState('');
  const [password, setPassword] = useState('');
  const form = useAuthForm(['login', 'password'], () => session.signIn(login.trim(), password));
  return (
    <AuthLayout
      title="Welcome back"
      lead={ended ? 'Your session has ended. Sign in to go on.' : 'Sign in to your rooms.'}
    >
      <form className={styles.form} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <TextField
          label="Username or e-mail"
          name="username"
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          required
          autoFocus
          value={login}
          error={form.errorAt('login')}
          onChange={(event) => setLogin(event.target.value)}
        />
        <TextField
          label="Password"
          name="password"
          type="password"
          autoComplete="current-password"
          required
          value={password}
          error={form.errorAt('password')}
          onChange={(event) => setPassword(event.target.value)}
        />
        <Button type="submit" variant="primary" busy={form.busy}>
          Sign in
        </Button>
      </form>
      <p className={styles.other}>
        New here? <Link to={paths.register}>Create an account</Link>
      </p>
    </AuthLayout>
  );
}
