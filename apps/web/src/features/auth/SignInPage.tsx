// Signing in: a passkey by button or among the suggestions, an account elsewhere, or a password and then perhaps
// a second factor.

import { useCallback, useState } from 'react';
import { useSession } from '../../app/context';
import { Link, navigate, paths, useRoute } from '../../app/router';
import { StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import { AuthLayout } from './AuthLayout';
import styles from './auth.module.css';
import { noPasskeys, useFacts } from './facts';
import { PASSKEY_WORDS, providerTrouble } from './words';
import { SecondFactor } from './SecondFactor';
import { useAuthForm } from './useAuthForm';
import { useAutofill } from './useAutofill';
import { Or, PasskeyButton, ProviderButtons } from './Ways';

/** What a provider's callback said, taken out of the address so that a reload does not say it again. */
function takeTrouble(): string | null {
  const slug = new URLSearchParams(location.search).get('error');
  if (slug === null || location.pathname !== paths.signin) return null;
  history.replaceState(null, '', location.pathname);
  return providerTrouble(slug);
}

/** Where somebody wanted to go before they had to sign in. */
function wanted(): string {
  const { pathname } = location;
  return pathname === paths.signin || pathname === paths.register ? paths.home : pathname;
}

export function SignInPage({ ended }: { ended: boolean }) {
  const session = useSession();
  const facts = useFacts();
  const route = useRoute();
  const [trouble] = useState(takeTrouble);
  const [login, setLogin] = useState('');
  const [password, setPassword] = useState('');
  const [ticket, setTicket] = useState<string | null>(null);
  const [offer, setOffer] = useState(0);
  const passkeys = noPasskeys(facts.registration.passkeys) === null;
  const form = useAuthForm(['login', 'password'], async () => {
    try {
      await session.enter((auth) => auth.login(login.trim(), password));
    } catch (error) {
      if (!(error instanceof StackError) || error.ticket === undefined) throw error;
      setTicket(error.ticket);
    }
  });
  const { fail } = form;
  const refused = useCallback((error: unknown) => fail(error, PASSKEY_WORDS), [fail]);
  useAutofill(passkeys && ticket === null, offer, refused);

  if (ticket !== null) {
    return (
      <SecondFactor
        ticket={ticket}
        onBack={() => {
          setTicket(null);
          setPassword('');
        }}
      />
    );
  }
  const byPasskey = async () => {
    try {
      await session.enter((auth) => auth.loginWithPasskey());
    } catch (error) {
      setOffer((round) => round + 1);
      throw error;
    }
  };
  const others = passkeys || facts.providers.length > 0;
  const lead = ended ? 'Your session has ended. Sign in to go on.' : 'Sign in to your rooms.';
  return (
    <AuthLayout title="Welcome back" lead={lead}>
      <div className={styles.form}>
        <FormError>{form.formError ?? trouble}</FormError>
        {passkeys && (
          <PasskeyButton
            label="Continue with a passkey"
            busy={form.busy}
            onClick={() => form.run(byPasskey, PASSKEY_WORDS)}
          />
        )}
        <ProviderButtons
          providers={facts.providers}
          href={(provider) => session.auth.providerUrl(provider, wanted())}
        />
        {others && <Or />}
        <form className={styles.fields} onSubmit={form.submit}>
          <TextField
            label="Username or e-mail"
            name="username"
            autoComplete="username webauthn"
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
          <Button type="submit" variant={passkeys ? 'secondary' : 'primary'} busy={form.busy}>
            Sign in
          </Button>
        </form>
      </div>
      {facts.registration.mode === 'open' && (
        <p className={styles.other}>
          New here?{' '}
          <Link
            to={paths.register}
            onClick={(event) => {
              if (route.name !== 'signin') return;
              event.preventDefault();
              navigate(paths.register, { replace: true });
            }}
          >
            Create an account
          </Link>
        </p>
      )}
      {facts.registration.mode === 'invite' && (
        <p className={styles.other}>New here? You need an invite link from an administrator.</p>
      )}
    </AuthLayout>
  );
}
