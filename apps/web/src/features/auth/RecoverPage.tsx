// Where an administrator's recovery link leads: a new password, and in.

import { useEffect, useState } from 'react';
import { useSession } from '../../app/context';
import { forgetSecret, Link, navigate, paths, useSecret } from '../../app/router';
import { StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import { Spinner } from '../../ui/Misc';
import { AuthLayout } from './AuthLayout';
import styles from './auth.module.css';
import { passwordHint } from './password';
import { SecondFactor } from './SecondFactor';
import { useAuthForm } from './useAuthForm';

type State = { username: string; min_chars: number } | 'loading' | 'over' | 'failed';

export function RecoverPage() {
  const session = useSession();
  const token = useSecret('recover');
  const [state, setState] = useState<State>('loading');
  const [tries, setTries] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new try asks again
  useEffect(() => {
    if (token === null) return;
    let gone = false;
    setState('loading');
    session.auth.recoverLook(token).then(
      (look) => gone || setState(look),
      (error: unknown) =>
        gone || setState(error instanceof StackError && !error.retryable ? 'over' : 'failed'),
    );
    return () => {
      gone = true;
    };
  }, [session, token, tries]);

  if (token === null || state === 'over') {
    return (
      <AuthLayout
        title={token === null ? 'Open the link again' : 'This link is over'}
        lead={
          token === null
            ? 'The link that you were sent carries what is needed; this page has lost it.'
            : 'It works once and for half an hour. Ask an administrator for a new one.'
        }
      >
        <p className={styles.other}>
          <Link to={paths.signin}>Sign in</Link>
        </p>
      </AuthLayout>
    );
  }
  if (state === 'loading') {
    return (
      <AuthLayout title="Get back in" lead="One moment.">
        <Spinner label="Loading" />
      </AuthLayout>
    );
  }
  if (state === 'failed') {
    return (
      <AuthLayout title="Get back in" lead="The server did not answer.">
        <div className={styles.form}>
          <Button variant="primary" onClick={() => setTries(tries + 1)}>
            Try again
          </Button>
        </div>
      </AuthLayout>
    );
  }
  return (
    <NewPassword
      token={token}
      username={state.username}
      least={state.min_chars}
      onOver={() => setState('over')}
    />
  );
}

interface NewPasswordProps {
  token: string;
  username: string;
  least: number;
  onOver(): void;
}

function NewPassword({ token, username, least, onOver }: NewPasswordProps) {
  const session = useSession();
  const [password, setPassword] = useState('');
  const [ticket, setTicket] = useState<string | null>(null);
  const form = useAuthForm(['new_password', 'password'], async () => {
    try {
      await session.enter((auth) => auth.recover(token, password));
    } catch (error) {
      if (!(error instanceof StackError)) throw error;
      if (error.ticket !== undefined) return setTicket(error.ticket);
      if (OVER.has(error.code)) return onOver();
      throw error;
    }
    arrive();
  });
  if (ticket !== null) {
    const back = () => navigate(paths.signin, { replace: true });
    return <SecondFactor ticket={ticket} onBack={back} onDone={arrive} />;
  }
  return (
    <AuthLayout
      title="Get back in"
      lead={`Choose a new password for @${username}. Other devices are signed out; you can add a passkey afterwards.`}
    >
      <form className={styles.form} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <input type="text" autoComplete="username" value={username} readOnly hidden />
        <TextField
          label="New password"
          name="new_password"
          type="password"
          autoComplete="new-password"
          required
          autoFocus
          value={password}
          hint={passwordHint(password, least)}
          error={form.errorAt('new_password') ?? form.errorAt('password')}
          onChange={(event) => setPassword(event.target.value)}
        />
        <Button type="submit" variant="primary" busy={form.busy}>
          Set password and sign in
        </Button>
      </form>
    </AuthLayout>
  );
}

function arrive(): void {
  forgetSecret('recover');
  navigate(paths.security, { replace: true });
}

const OVER = new Set(['gone', 'not_found']);
