// One's own account: name, ways of signing in, devices.

import { Link, paths, type SettingsTab } from '../../app/router';
import { ConnectionPill } from '../connection/ConnectionPill';
import { PageHeader } from '../rooms/PageHeader';
import rooms from '../rooms/rooms.module.css';
import { LinkedAccounts } from '../security/LinkedAccounts';
import { SecurityPage } from '../security/SecurityPage';
import { ProfileForm } from './ProfileForm';
import { SessionList } from './SessionList';
import styles from './settings.module.css';

const TABS = [
  { tab: 'profile', to: paths.settings, label: 'Profile' },
  { tab: 'security', to: paths.security, label: 'Security' },
  { tab: 'sessions', to: paths.sessions, label: 'Devices' },
  { tab: 'linked', to: paths.linked, label: 'Linked accounts' },
] as const;

export function SettingsPage({ tab }: { tab: SettingsTab }) {
  return (
    <main className={rooms.page}>
      <ConnectionPill />
      <PageHeader title="Settings" />
      <nav className={styles.tabs} aria-label="Settings">
        {TABS.map((entry) => (
          <Link
            key={entry.tab}
            to={entry.to}
            className={styles.tab}
            aria-current={entry.tab === tab ? 'page' : undefined}
          >
            {entry.label}
          </Link>
        ))}
      </nav>
      <div className={rooms.scroll}>
        <div className={styles.body}>
          {tab === 'profile' && <ProfileForm />}
          {tab === 'security' && <SecurityPage />}
          {tab === 'sessions' && <SessionList />}
          {tab === 'linked' && <LinkedAccounts />}
        </div>
      </div>
    </main>
  );
}
