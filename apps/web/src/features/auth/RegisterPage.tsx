// Making an account where anybody may.

import { useSession } from '../../app/context';
import { Link, paths } from '../../app/router';
import { AccountForm } from './AccountForm';
import { AuthLayout } from './AuthLayout';
import styles from './auth.module.css';
import { noPasskeys, useFacts } from './facts';
import { ProviderButtons } from './Ways';

export function RegisterPage() {
  const session = useSession();
  const { registration, providers } = useFacts();
  if (registration.mode !== 'open') return <Closed invites={registration.mode === 'invite'} />;
  const without = noPasskeys(registration.passkeys);
  return (
    <AuthLayout
      title="Create your account"
      lead={`It takes a name and a ${without === null ? 'passkey' : 'password'}, nothing else.`}
    >
      <AccountForm
        noPasskeys={without}
        leastPassword={registration.password.min_chars}
        byPasskey={(account) => session.enter((auth) => auth.registerWithPasskey(account))}
        byPassword={(account) => session.enter((auth) => auth.register(account))}
      >
        {providers.length > 0 && (
          <ProviderButtons
            providers={providers}
            href={(provider) => session.auth.providerUrl(provider, paths.home)}
          />
        )}
      </AccountForm>
      <p className={styles.other}>
        Have an account? <Link to={paths.signin}>Sign in</Link>
      </p>
    </AuthLayout>
  );
}

function Closed({ invites }: { invites: boolean }) {
  return (
    <AuthLayout
      title={invites ? 'By invitation' : 'Closed'}
      lead={
        invites
          ? 'New accounts need an invite link. Ask an administrator for one, and open it here.'
          : 'This server takes no new accounts. An administrator can make one for you.'
      }
    >
      <p className={styles.other}>
        Have an account? <Link to={paths.signin}>Sign in</Link>
      </p>
    </AuthLayout>
  );
}
