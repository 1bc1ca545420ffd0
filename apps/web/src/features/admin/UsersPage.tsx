// Everybody with an account: finding them, what they are, how they sign in.

import { useCallback, useDeferredValue, useState } from 'react';
import { useChat } from '../../app/context';
import { ago } from '../../lib/format';
import type { AdminUser } from '../../sdk';
import { Avatar } from '../../ui/Avatar';
import { Button } from '../../ui/Button';
import { Icon } from '../../ui/Icon';
import { Spinner } from '../../ui/Misc';
import { Failed } from '../security/PasskeyList';
import { AddUserDialog } from './AddUserDialog';
import styles from './admin.module.css';
import { UserMenu } from './UserMenu';
import { usePages } from './usePages';

const PAGE = 50;

export function UsersPage() {
  const { admin } = useChat().client;
  const [typed, setTyped] = useState('');
  const [adding, setAdding] = useState(false);
  const q = useDeferredValue(typed.trim());
  const load = useCallback(
    async (after: string | undefined) => {
      const items = await admin.users({ limit: PAGE, ...(after ? { after } : {}), ...(q ? { q } : {}) });
      return { items, next: items.length === PAGE ? items.at(-1)?.id : undefined };
    },
    [admin, q],
  );
  const people = usePages(load);
  return (
    <>
      <div className={styles.tools}>
        <div className={styles.search}>
          <Icon name="search" size={16} />
          <input
            type="search"
            aria-label="Find people"
            placeholder="Name, username or e-mail"
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
          />
        </div>
        <Button variant="primary" onClick={() => setAdding(true)}>
          Add somebody
        </Button>
      </div>
      {people.status === 'loading' && <Spinner label="Loading people" />}
      {people.status === 'failed' && <Failed what="The list" again={people.reload} />}
      {people.status === 'ready' && people.items.length === 0 && (
        <p className={styles.none}>Nobody here is called that.</p>
      )}
      {people.items.length > 0 && (
        <ul className={styles.list}>
          {people.items.map((user) => (
            <UserRow key={user.id} user={user} onChanged={people.reload} />
          ))}
        </ul>
      )}
      {people.more && (
        <div className={styles.more}>
          <Button onClick={people.loadMore}>Show more</Button>
        </div>
      )}
      {adding && <AddUserDialog onClose={() => setAdding(false)} onDone={people.reload} />}
    </>
  );
}

function UserRow({ user, onChanged }: { user: AdminUser; onChanged(): void }) {
  return (
    <li className={styles.row} data-testid={`user-${user.username}`} data-off={user.disabled || undefined}>
      <Avatar id={user.id} name={user.display_name} />
      <span className={styles.rowText}>
        <span className={styles.rowName}>
          <span className={styles.ellipsis}>{user.display_name}</span>
          {user.role === 'admin' && <span className={styles.badge}>Admin</span>}
          {user.kind === 'bot' && <span className={styles.badge}>Bot</span>}
          {user.kind === 'external' && <span className={styles.badge}>External</span>}
          {user.disabled && (
            <span className={styles.badge} data-tone="danger">
              Disabled
            </span>
          )}
        </span>
        <span className={styles.rowMeta}>
          @{user.username}
          {user.email ? ` · ${user.email}` : ''}
        </span>
        <span className={styles.rowMeta}>
          {[waysIn(user), user.last_seen_at != null ? `seen ${ago(user.last_seen_at)}` : 'never seen']
            .filter(Boolean)
            .join(' · ')}
        </span>
      </span>
      <UserMenu user={user} onChanged={onChanged} />
    </li>
  );
}

/** "2 passkeys, password with second factor". */
export function waysIn({ factors, kind }: AdminUser): string {
  if (kind !== 'person') return '';
  const { passkeys, password, totp, links } = factors;
  const ways = [
    passkeys > 0 && (passkeys === 1 ? '1 passkey' : `${passkeys} passkeys`),
    password && (totp ? 'password with second factor' : 'password'),
    links > 0 && (links === 1 ? '1 linked account' : `${links} linked accounts`),
  ].filter(Boolean);
  return ways.length === 0 ? 'no way to sign in' : ways.join(', ');
}
