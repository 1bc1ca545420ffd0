// The record of what was done and tried, newest first.

import { useCallback, useEffect, useState } from 'react';
import { useChat } from '../../app/context';
import { useStore } from '../../app/hooks';
import { clock, dayName, longTime, sameDay } from '../../lib/format';
import type { AuditEntry, User } from '../../sdk';
import { Button } from '../../ui/Button';
import { Icon } from '../../ui/Icon';
import { Spinner } from '../../ui/Misc';
import field from '../../ui/field.module.css';
import { Failed } from '../security/PasskeyList';
import { ACTIONS, actionWords, ON_PEOPLE } from './actions';
import styles from './admin.module.css';
import { usePages } from './usePages';

const PAGE = 100;

export function AuditPage() {
  const chat = useChat();
  const { admin } = chat.client;
  const people = useStore(chat.people.users);
  const [action, setAction] = useState('');
  const [person, setPerson] = useState<User | null>(null);
  const load = useCallback(
    async (before: number | undefined) => {
      const page = await admin.audit({
        limit: PAGE,
        ...(before === undefined ? {} : { before }),
        ...(action ? { action } : {}),
        ...(person ? { actor: person.id } : {}),
      });
      return { items: page.entries, next: page.next ?? undefined };
    },
    [admin, action, person],
  );
  const log = usePages(load);
  useEffect(() => {
    for (const { action, actor, target } of log.items) {
      if (actor) chat.people.need(actor);
      if (target && ON_PEOPLE.has(action) && looksLikeId(target)) chat.people.need(target);
    }
  }, [log.items, chat]);
  const nameOf = (id: string) => {
    const user = people.get(id);
    return user === undefined ? id : `@${user.username}`;
  };
  return (
    <>
      <div className={styles.tools}>
        <div className={styles.filters}>
          <select
            className={field.select}
            aria-label="What happened"
            value={action}
            onChange={(event) => setAction(event.target.value)}
          >
            <option value="">Everything</option>
            {ACTIONS.map((name) => (
              <option key={name} value={name}>
                {actionWords(name)}
              </option>
            ))}
          </select>
          <PersonFilter person={person} onPick={setPerson} />
        </div>
        <a className={styles.export} href={admin.auditExportUrl} download="audit.jsonl">
          <Icon name="download" size={18} />
          Export
        </a>
      </div>
      {log.status === 'loading' && <Spinner label="Loading the log" />}
      {log.status === 'failed' && <Failed what="The log" again={log.reload} />}
      {log.status === 'ready' && log.items.length === 0 && (
        <p className={styles.none}>Nothing of the kind.</p>
      )}
      {log.items.length > 0 && (
        <ol className={styles.log}>
          {log.items.map((entry, at) => (
            <Entry key={entry.id} entry={entry} above={log.items[at - 1]} nameOf={nameOf} />
          ))}
        </ol>
      )}
      {log.more && (
        <div className={styles.more}>
          <Button onClick={log.loadMore}>Show older</Button>
        </div>
      )}
    </>
  );
}

interface EntryProps {
  entry: AuditEntry;
  above: AuditEntry | undefined;
  nameOf(id: string): string;
}

function Entry({ entry, above, nameOf }: EntryProps) {
  const newDay = above === undefined || !sameDay(above.at, entry.at);
  return (
    <>
      {newDay && <li className={styles.day}>{dayName(entry.at)}</li>}
      <li className={styles.entry} data-testid="audit-entry">
        <time className={styles.when} dateTime={new Date(entry.at).toISOString()} title={longTime(entry.at)}>
          {clock(entry.at)}
        </time>
        <span className={styles.what}>
          <span className={styles.rowName}>
            {actionWords(entry.action)}
            {entry.outcome === 'refused' && (
              <span className={styles.badge} data-tone="danger">
                Refused
              </span>
            )}
          </span>
          <span className={styles.rowMeta}>
            {[
              entry.actor ? `by ${nameOf(entry.actor)}` : 'by nobody known',
              entry.target && entry.target !== entry.actor && `on ${nameOf(entry.target)}`,
              entry.ip && `from ${entry.ip}`,
            ]
              .filter(Boolean)
              .join(' · ')}
          </span>
        </span>
      </li>
    </>
  );
}

/** One name; Enter looks it up. */
function PersonFilter({ person, onPick }: { person: User | null; onPick(user: User | null): void }) {
  const chat = useChat();
  const [typed, setTyped] = useState('');
  const find = () => {
    if (typed.trim() === '') return onPick(null);
    chat.people.find(typed).then((user) => {
      if (user === null) chat.toasts.show('Nobody here has this username.', 'danger');
      else onPick(user);
    }, chat.toasts.failed);
  };
  return (
    <form
      className={styles.search}
      onSubmit={(event) => {
        event.preventDefault();
        find();
      }}
    >
      <Icon name="user" size={16} />
      <input
        type="search"
        aria-label="By whom"
        placeholder="By whom: username"
        autoCapitalize="none"
        value={typed}
        onChange={(event) => {
          setTyped(event.target.value);
          if (event.target.value === '' && person !== null) onPick(null);
        }}
      />
    </form>
  );
}

function looksLikeId(target: string): boolean {
  return /^[1-9A-HJ-NP-Za-km-z]{20,24}$/.test(target);
}
