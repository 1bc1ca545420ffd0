// Why a message did not arrive: how it went out, and what became of it for everybody in its room.

import { type ReactNode, useEffect, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { useStore } from '../../app/hooks';
import { navigate, traced } from '../../app/router';
import { ago } from '../../lib/format';
import {
  type Arrival,
  type MessageTrace,
  StackError,
  type TracedClosed,
  type TracedConnection,
  type TracedPerson,
} from '../../sdk';
import { Avatar } from '../../ui/Avatar';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import { ARRIVALS, closedWords, connectionWords, nameOf, personWords } from './arrival';
import { count, milliseconds } from './figures';
import admin from './admin.module.css';
import styles from './trace.module.css';

interface Asked {
  room: string;
  seq: string;
  user: string;
}

/** What the address asks for, so that a look can be kept and sent on. */
function asked(): Asked {
  const query = new URLSearchParams(location.search);
  const of = (name: string) => query.get(name) ?? '';
  return { room: of('room'), seq: of('seq'), user: of('user') };
}

export function TracePage() {
  const chat = useChat();
  const rooms = useStore(chat.rooms.state).byId;
  const [form, setForm] = useState(asked);
  const [found, setFound] = useState<MessageTrace | null>(null);
  const [wrong, setWrong] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const latest = useRef(0);

  const look = ({ room, seq, user }: Asked) => {
    const mine = ++latest.current;
    const done = (found: MessageTrace | null, wrong: string | null) => {
      if (mine !== latest.current) return;
      setFound(found);
      setWrong(wrong);
      setBusy(false);
    };
    setBusy(true);
    chat.client.admin.trace(room.trim(), Number(seq), user.trim() || undefined).then(
      (found) => done(found, null),
      (error: unknown) => done(null, error instanceof StackError ? sentence(error.message) : 'That failed.'),
    );
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: what the address asked for when the page was opened
  useEffect(() => {
    if (form.room && isNumber(form.seq)) look(form);
    return () => {
      latest.current++;
    };
  }, []);
  const change = (field: keyof Asked) => (event: { target: { value: string } }) =>
    setForm({ ...form, [field]: event.target.value });
  return (
    <>
      <p className={styles.lead}>
        Why did this message not arrive? A look shows no text of it, and goes on record.
      </p>
      <form
        className={styles.form}
        onSubmit={(event) => {
          event.preventDefault();
          navigate(traced(form.room.trim(), form.seq, form.user.trim()), { replace: true });
          look(form);
        }}
      >
        <TextField
          label="Room"
          required
          list="rooms-to-trace"
          autoCapitalize="none"
          spellCheck={false}
          value={form.room}
          onChange={change('room')}
        />
        <datalist id="rooms-to-trace">
          {[...rooms.values()].map(({ id, title }) => (
            <option key={id} value={id}>
              {title}
            </option>
          ))}
        </datalist>
        <TextField
          label="Message number"
          required
          inputMode="numeric"
          pattern="[0-9]*"
          title="A number"
          value={form.seq}
          onChange={change('seq')}
        />
        <TextField
          label="Person (optional)"
          autoCapitalize="none"
          spellCheck={false}
          placeholder="username"
          value={form.user}
          onChange={change('user')}
        />
        <Button type="submit" variant="primary" busy={busy} className={styles.look}>
          Look
        </Button>
      </form>
      <FormError>{wrong}</FormError>
      <div className={styles.found} data-testid={found ? 'trace' : undefined}>
        {found && <About found={found} />}
        {/* It is there before there is something to tell, and tells no more than that: the lists are long. */}
        <div aria-live="polite">{found && <Sums found={found} />}</div>
        {found && <Lists found={found} />}
      </div>
    </>
  );
}

function isNumber(text: string): boolean {
  return /^[0-9]+$/.test(text);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function Lists({ found }: { found: MessageTrace }) {
  const { message, people, connections, closed, not_listed } = found;
  return (
    <>
      <Listed title="People" more={not_listed.people}>
        {people.map((person) => (
          <PersonRow key={person.user.id} person={person} />
        ))}
      </Listed>
      {connections.length > 0 && (
        <Listed title="Connections" more={not_listed.connections}>
          {connections.map((connection, at) => (
            <ConnectionRow key={connection.connection.id ?? at} connection={connection} seq={message.seq} />
          ))}
        </Listed>
      )}
      {closed.length > 0 && (
        <Listed title="Connections that left the room lately" more={not_listed.closed}>
          {closed.map((gone) => (
            <ClosedRow key={`${gone.connection.id} ${gone.ended_at} ${gone.from}`} gone={gone} />
          ))}
        </Listed>
      )}
      <p className={styles.note}>
        Handed over means that the gateway has written it to the connection. Whether it came through the
        network is not known here, and of what somebody has seen only their read marker tells, which is kept
        for the person and not for each device.
      </p>
    </>
  );
}

/** The message itself, and how it went out. */
function About({ found }: { found: MessageTrace }) {
  const { room, message, commit } = found;
  const together = commit && commit.first !== commit.last ? `, with ${commit.first} to ${commit.last}` : '';
  return (
    <section className={styles.about}>
      <h2 className={styles.heading}>
        Message {message.seq} in {room.title}
        {message.state !== 'stored' && (
          <span className={admin.badge} data-tone="danger">
            {message.state === 'redacted' ? 'Taken back' : 'Dropped'}
          </span>
        )}
      </h2>
      {message.state === 'dropped' && (
        <p className={styles.note}>
          The room keeps messages from {room.first} on; this one is older and is gone. A reader who came too
          late for it was told of the gap, and stands below as one to whom it was handed over.
        </p>
      )}
      <dl className={styles.facts}>
        {message.sender && (
          <Fact name="What it is">
            {message.type} of {nameOf(message.sender)}, {count(message.bytes ?? 0)} bytes
          </Fact>
        )}
        {commit === null && message.ts !== null && <Fact name="In the log">{exact(message.ts)}</Fact>}
        {commit ? (
          <>
            <Fact name="Committed">
              {exact(commit.committed_at)}
              {together}
            </Fact>
            <Fact name="Published">{milliseconds(commit.published_us / 1000)} later</Fact>
            <Fact name="Handed out">
              {milliseconds(commit.handed_us / 1000)} later, to{' '}
              {commit.readers === 1 ? 'one live reader' : `${count(commit.readers)} live readers`}
              {commit.fell_behind > 0 && `; ${count(commit.fell_behind)} fell behind`}
            </Fact>
          </>
        ) : (
          <Fact name="How it went out">
            not remembered: memory reaches back to {exact(found.remembered_since)} at best
          </Fact>
        )}
      </dl>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className={styles.fact}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Sums({ found }: { found: MessageTrace }) {
  const sums = found.people_by_arrival;
  return (
    <ul className={styles.sums} aria-label="People by what became of it">
      {(Object.keys(ARRIVALS) as Arrival[])
        .filter((arrival) => sums[arrival])
        .map((arrival) => (
          <li key={arrival} className={styles.sum} data-tone={ARRIVALS[arrival].tone}>
            <strong>{count(sums[arrival] ?? 0)}</strong> {ARRIVALS[arrival].short}
          </li>
        ))}
    </ul>
  );
}

function Listed({ title, more, children }: { title: string; more: number; children: ReactNode }) {
  return (
    <section>
      <h2 className={styles.heading}>{title}</h2>
      <ul className={admin.list}>{children}</ul>
      {more > 0 && (
        <p className={styles.note}>And {count(more)} more. Name a person to see what concerns them.</p>
      )}
    </section>
  );
}

function PersonRow({ person }: { person: TracedPerson }) {
  const { user, arrival, role, connections, subscriptions, last_seen_at } = person;
  const { short, tone } = ARRIVALS[arrival];
  const seen = last_seen_at === null ? 'never seen' : `seen ${ago(last_seen_at)}`;
  return (
    <li className={admin.row} data-testid={`traced-${user.username}`}>
      <Avatar id={user.id} name={nameOf(user)} />
      <span className={admin.rowText}>
        <span className={admin.rowName}>
          <span className={admin.ellipsis}>{nameOf(user)}</span>
          <span className={styles.badge} data-tone={tone}>
            {short}
          </span>
        </span>
        <span className={styles.words}>{personWords(person)}</span>
        <span className={admin.rowMeta}>
          {[
            user.username && `@${user.username}`,
            role ?? 'no member',
            connections === 0 ? seen : `${subscriptions} of ${connections} connections read this room`,
          ]
            .filter(Boolean)
            .join(' · ')}
        </span>
      </span>
    </li>
  );
}

function ConnectionRow({ connection, seq }: { connection: TracedConnection; seq: number }) {
  const { short, tone } = ARRIVALS[connection.state];
  return (
    <li className={admin.row} data-testid={`connection-${connection.user.username}`}>
      <span className={admin.rowText}>
        <span className={admin.rowName}>
          <span className={admin.ellipsis}>{nameOf(connection.user)}</span>
          <span className={styles.badge} data-tone={tone}>
            {short}
          </span>
        </span>
        <span className={styles.words}>{connectionWords(connection, seq, exact)}</span>
        <By of={connection} />
      </span>
    </li>
  );
}

function ClosedRow({ gone }: { gone: TracedClosed }) {
  return (
    <li className={admin.row} data-testid={`closed-${gone.user.username}`}>
      <span className={admin.rowText}>
        <span className={admin.rowName}>
          <span className={admin.ellipsis}>{nameOf(gone.user)}</span>
          <time className={styles.when} dateTime={new Date(gone.ended_at).toISOString()}>
            {exact(gone.ended_at)}
          </time>
        </span>
        <span className={styles.words}>{closedWords(gone)}</span>
        <By of={gone} />
      </span>
    </li>
  );
}

const WAYS = { socket: '', edge: 'by an edge', local: 'a program at the local socket' };

function By({ of: { connection } }: { of: TracedConnection | TracedClosed }) {
  const { id, way, session, device, ip } = connection;
  const parts = [
    device,
    ip && `from ${ip}`,
    way && WAYS[way],
    id && `connection ${id}`,
    session && `session ${session}`,
  ];
  return <span className={admin.rowMeta}>{parts.filter(Boolean).join(' · ')}</span>;
}

const toTheMillisecond = new Intl.DateTimeFormat(undefined, {
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  fractionalSecondDigits: 3,
});

function exact(ts: number): string {
  return toTheMillisecond.format(ts);
}
