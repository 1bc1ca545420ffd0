// The first run: whoever has the link that the start printed becomes the first administrator.

import { useEffect, useState } from 'react';
import { useSession } from '../../app/context';
import { forgetSecret, Link, navigate, paths, useSecret } from '../../app/router';
import { type SetupInfo, StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { Spinner } from '../../ui/Misc';
import { AccountForm } from '../auth/AccountForm';
import { AuthLayout } from '../auth/AuthLayout';
import auth from '../auth/auth.module.css';
import { noPasskeys, useFacts } from '../auth/facts';

type State = SetupInfo | 'loading' | 'failed';

export function SetupPage() {
  const session = useSession();
  const token = useSecret('setup');
  const { registration } = useFacts();
  const [state, setState] = useState<State>('loading');
  const load = () => {
    setState('loading');
    session.auth.setup().then(setState, () => setState('failed'));
  };
  useEffect(load, [session]);

  if (state === 'loading') {
    return (
      <AuthLayout title="Set up" lead="One moment.">
        <Spinner label="Loading" />
      </AuthLayout>
    );
  }
  if (state === 'failed') {
    return (
      <AuthLayout title="Set up" lead="The server did not answer.">
        <div className={auth.form}>
          <Button variant="primary" onClick={load}>
            Try again
          </Button>
        </div>
      </AuthLayout>
    );
  }
  if (!state.open) {
    return (
      <AuthLayout title="Already set up" lead="This server has its administrator.">
        <p className={auth.other}>
          <Link to={paths.signin}>Sign in</Link>
        </p>
      </AuthLayout>
    );
  }
  if (token === null) {
    return (
      <AuthLayout
        title="Set up"
        lead="Open the link that the server printed when it started. It works once and for a short time."
      >
        <p className={auth.hint}>
          To have it printed again, run <code>stack-gateway setup-url</code> on the server.
        </p>
      </AuthLayout>
    );
  }
  const entered = async (by: Promise<void>) => {
    try {
      await by;
    } catch (error) {
      throw stale(error) ? new StackError('gone', STALE) : error;
    }
    forgetSecret('setup');
    navigate(paths.home, { replace: true });
  };
  return (
    <AuthLayout title="Welcome to your server" lead="Create the first account. It is the administrator's.">
      <AccountForm
        explain
        noPasskeys={noPasskeys(state.passkeys, state.reason)}
        leastPassword={registration.password.min_chars}
        byPasskey={(account) => entered(session.enter((api) => api.setupWithPasskey(token, account)))}
        byPassword={(account) => entered(session.enter((api) => api.setupWithPassword(token, account)))}
      />
    </AuthLayout>
  );
}

const STALE =
  'This link is used up or too old. Run "stack-gateway setup-url" on the server for a new one, and open that.';

function stale(error: unknown): boolean {
  if (!(error instanceof StackError)) return false;
  return error.code === 'gone' || error.code === 'forbidden' || error.field === 'setup';
}
