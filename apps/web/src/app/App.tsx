// Decides between signing in and the chat.

import { useEffect } from 'react';
import { RecoverPage } from '../features/auth/RecoverPage';
import { RegisterPage } from '../features/auth/RegisterPage';
import { SignInPage } from '../features/auth/SignInPage';
import { providerTrouble } from '../features/auth/words';
import { ReauthDialog } from '../features/security/ReauthDialog';
import { InvitePage } from '../features/invites/InvitePage';
import { SetupPage } from '../features/setup/SetupPage';
import { Button } from '../ui/Button';
import { Empty, Spinner } from '../ui/Misc';
import { ChatContext, useSession } from './context';
import { useStore } from './hooks';
import { navigate, paths, useRoute } from './router';
import { Shell } from './Shell';
import styles from './shell.module.css';

export function App() {
  const session = useSession();
  const state = useStore(session.state);
  const route = useRoute();

  useEffect(() => {
    if (state.status !== 'signed_in') return;
    // Linking an account comes back here too when it fails.
    const trouble = route.name === 'signin' && new URLSearchParams(location.search).get('error');
    if (trouble) {
      navigate(paths.linked, { replace: true });
      state.chat.toasts.show(providerTrouble(trouble), 'danger');
    } else if (route.name === 'signin' || route.name === 'register') {
      navigate(paths.home, { replace: true });
    }
  }, [state, route]);

  const unreachable = state.status === 'unreachable';
  useEffect(() => {
    if (!unreachable) return;
    const again = () => void session.restore();
    window.addEventListener('online', again);
    return () => window.removeEventListener('online', again);
  }, [session, unreachable]);

  if (state.status === 'loading') {
    return (
      <main className={styles.full}>
        <Spinner label="Loading" />
      </main>
    );
  }
  if (unreachable) {
    return (
      <main className={styles.full}>
        <Empty page icon="offline" title="The server cannot be reached">
          <p>Check your connection. Nothing you wrote is lost.</p>
          <Button variant="primary" onClick={() => void session.restore()}>
            Try again
          </Button>
        </Empty>
      </main>
    );
  }
  // These stand on the secret that one came with, whoever is signed in here.
  if (route.name === 'setup') return <SetupPage />;
  if (route.name === 'invite') return <InvitePage />;
  if (route.name === 'recover') return <RecoverPage />;
  if (state.status === 'signed_out') {
    return route.name === 'register' ? <RegisterPage /> : <SignInPage ended={state.ended} />;
  }
  return (
    <ChatContext value={state.chat}>
      <Shell />
      <ReauthDialog />
    </ChatContext>
  );
}
