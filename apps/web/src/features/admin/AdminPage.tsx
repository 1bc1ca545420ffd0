// What administrators look after: the server, people, invites, bans, keys, and the record of it all.

import { useChat } from '../../app/context';
import { useStore } from '../../app/hooks';
import { type AdminTab, Link, navigate, paths } from '../../app/router';
import { Button } from '../../ui/Button';
import { Empty } from '../../ui/Misc';
import { ConnectionPill } from '../connection/ConnectionPill';
import { PageHeader } from '../rooms/PageHeader';
import rooms from '../rooms/rooms.module.css';
import settings from '../settings/settings.module.css';
import { AuditPage } from './AuditPage';
import { BansPage } from './BansPage';
import { InvitesPage } from './InvitesPage';
import { KeysPage } from './KeysPage';
import { OverviewPage } from './OverviewPage';
import { TracePage } from './TracePage';
import { UsersPage } from './UsersPage';
import styles from './admin.module.css';

const TABS = [
  { tab: 'overview', to: paths.overview, label: 'Overview' },
  { tab: 'trace', to: paths.trace, label: 'Trace' },
  { tab: 'users', to: paths.admin, label: 'People' },
  { tab: 'invites', to: paths.invites, label: 'Invites' },
  { tab: 'bans', to: paths.bans, label: 'Bans' },
  { tab: 'keys', to: paths.keys, label: 'API keys' },
  { tab: 'audit', to: paths.audit, label: 'Audit log' },
] as const;

const PAGES = {
  overview: OverviewPage,
  trace: TracePage,
  users: UsersPage,
  invites: InvitesPage,
  bans: BansPage,
  keys: KeysPage,
  audit: AuditPage,
};

export function AdminPage({ tab }: { tab: AdminTab }) {
  const chat = useChat();
  const admin = useStore(chat.me).role === 'admin';
  const Page = PAGES[tab];
  if (!admin) {
    return (
      <main className={rooms.page}>
        <PageHeader title="Administration" />
        <Empty icon="shield" title="For administrators">
          <p>Your account has no part in running this server.</p>
          <Button onClick={() => navigate(paths.home)}>Go to your rooms</Button>
        </Empty>
      </main>
    );
  }
  return (
    <main className={rooms.page}>
      <ConnectionPill />
      <PageHeader title="Administration" />
      <nav className={settings.tabs} aria-label="Administration">
        {TABS.map((entry) => (
          <Link
            key={entry.tab}
            to={entry.to}
            className={settings.tab}
            aria-current={entry.tab === tab ? 'page' : undefined}
          >
            {entry.label}
          </Link>
        ))}
      </nav>
      {/* With the keyboard too, where there is nothing in it to go to. */}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
      <section className={rooms.scroll} tabIndex={0} aria-label={TABS.find((entry) => entry.tab === tab)?.label}>
        <div className={styles.body}>
          <Page />
        </div>
      </section>
    </main>
  );
}
