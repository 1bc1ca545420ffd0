// One's own account: name, password, devices.

import { Link, paths } from '../../app/router';
import { ConnectionPill } from '../connection/ConnectionPill';
import { PageHeader } from '../rooms/PageHeader';
import rooms from '../rooms/rooms.module.css';
import { PasswordForm } from './PasswordForm';
import { ProfileForm } from './ProfileForm';
import { SessionList } from './SessionList';
import styles from './settings.module.css';

const TABS = [
  { tab: 'profile', to: paths.settings, label: 'Profile' },
  { tab: 'password', to: paths.password, label: 'Password' },
  { tab: 'sessions', to: paths.sessions, label: 'Devices' },
] as const;

export function SettingsPage({ tab }: { tab: (typeof TABS)[number]['tab'] }) {
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
          {tab === 'password' && <PasswordForm />}
          {tab === 'sessions' && <SessionList />}
        </div>
      </div>
    </main>
  );
}
