// Where an invite link leads: who invites, and the account to make.

import { useEffect, useState } from 'react';
import { useSession } from '../../app/context';
import { useStore } from '../../app/hooks';
import { forgetSecret, Link, navigate, paths, useSecret } from '../../app/router';
import { type InviteLook, StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { Spinner } from '../../ui/Misc';
import { AccountForm } from '../auth/AccountForm';
import { AuthLayout } from '../auth/AuthLayout';
import auth from '../auth/auth.module.css';
import { noPasskeys, useFacts } from '../auth/facts';
import { ProviderPicks } from '../auth/Ways';

type State = InviteLook | 'loading' | 'closed' | 'failed';

export function InvitePage() {
  const session = useSession();
  const invite = useSecret('invite');
  const signedIn = useStore(session.state).status === 'signed_in';
  const { registration, providers } = useFacts();
  const [state, setState] = useState<State>('loading');
  const [tries, setTries] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new try asks again
  useEffect(() => {
    if (invite === null) return;
    let gone = false;
    setState('loading');
    session.auth.inviteLook(invite).then(
      (look) => gone || setState(look),
      (error: unknown) =>
        gone || setState(error instanceof StackError && !error.retryable ? 'closed' : 'failed'),
    );
    return () => {
      gone = true;
    };
  }, [session, invite, tries]);

  if (signedIn) {
    return (
      <AuthLayout title="You are in already" lead="An invite makes a new account, and you have one.">
        <div className={auth.form}>
          <Button variant="primary" onClick={() => navigate(paths.home, { replace: true })}>
            Go to your rooms
          </Button>
        </div>
      </AuthLayout>
    );
  }
  if (invite === null || state === 'closed') {
    return (
      <AuthLayout
        title={invite === null ? 'Open the link again' : 'This invite is over'}
        lead={
          invite === null
            ? 'The link that you were sent carries the invite; this page has lost it.'
            : 'It is used up, too old, or was taken back. Ask for a new one.'
        }
      >
        <p className={auth.other}>
          Have an account? <Link to={paths.signin}>Sign in</Link>
        </p>
      </AuthLayout>
    );
  }
  if (state === 'loading') {
    return (
      <AuthLayout title="Your invite" lead="One moment.">
        <Spinner label="Loading" />
      </AuthLayout>
    );
  }
  if (state === 'failed') {
    return (
      <AuthLayout title="Your invite" lead="The server did not answer.">
        <div className={auth.form}>
          <Button variant="primary" onClick={() => setTries(tries + 1)}>
            Try again
          </Button>
        </div>
      </AuthLayout>
    );
  }
  const entered = async (by: Promise<void>) => {
    await by;
    forgetSecret('invite');
    navigate(paths.home, { replace: true });
  };
  const away = (provider: string) => {
    session.auth.providerUrlFor(provider, paths.home, invite).then(
      (url) => location.assign(url),
      () => setState('failed'),
    );
  };
  const from = state.invited_by ? `${state.invited_by} invites you.` : 'You are invited.';
  return (
    <AuthLayout
      title="Join in"
      lead={`${from} Create your account${state.role === 'admin' ? ", an administrator's," : ''} to come in.`}
    >
      <AccountForm
        noPasskeys={noPasskeys(registration.passkeys)}
        leastPassword={registration.password.min_chars}
        byPasskey={(account) =>
          entered(session.enter((api) => api.registerWithPasskey({ ...account, invite })))
        }
        byPassword={(account) => entered(session.enter((api) => api.register({ ...account, invite })))}
      >
        {providers.length > 0 && <ProviderPicks providers={providers} onPick={away} />}
      </AccountForm>
      <p className={auth.other}>
        Have an account? <Link to={paths.signin}>Sign in</Link>
      </p>
    </AuthLayout>
  );
}
