// What became of a message, in words.

import type { Arrival, TracedClosed, TracedConnection, TracedPerson, TracedUser } from '../../sdk';

interface Word {
  /** On the badge, and in the sum of all. */
  short: string;
  tone: 'good' | 'plain' | 'warn' | 'danger';
}

/** In the order in which the sums stand. */
export const ARRIVALS: Readonly<Record<Arrival, Word>> = {
  sent: { short: 'sent it', tone: 'good' },
  read: { short: 'read', tone: 'good' },
  handed: { short: 'handed over', tone: 'good' },
  at_edge: { short: 'at an edge', tone: 'plain' },
  on_its_way: { short: 'on its way', tone: 'warn' },
  behind: { short: 'behind', tone: 'warn' },
  missed: { short: 'gone before it', tone: 'danger' },
  later: { short: 'came later', tone: 'warn' },
  not_subscribed: { short: 'not subscribed', tone: 'warn' },
  away: { short: 'no connection', tone: 'plain' },
  not_theirs: { short: 'not for them', tone: 'plain' },
  not_in_room: { short: 'not in the room', tone: 'danger' },
};

/** What a badge of a few words leaves out. */
export function personWords({ arrival, first, read_seq }: TracedPerson): string {
  switch (arrival) {
    case 'sent':
      return 'They have sent it themselves.';
    case 'read':
      return `Their read marker stands at ${read_seq}.`;
    case 'handed':
      return `It was written to a connection of theirs. ${marker(read_seq)}`;
    case 'at_edge':
      return 'They are connected to an edge, which hands it out and knows how far it is.';
    case 'on_its_way':
      return 'Their connection reads live, and its turn has not come yet.';
    case 'behind':
      return 'Their connection takes messages slower than they come, and gets this one from the log.';
    case 'missed':
      return 'Their connection ended before it was handed over. They get it when they come back and ask for it.';
    case 'later':
      return 'Their connection subscribed behind it, and shows it if it loads what came before.';
    case 'not_subscribed':
      return 'They are connected, and no connection of theirs reads this room.';
    case 'away':
      return `They have no connection. ${marker(read_seq)}`;
    case 'not_theirs':
      return `The room's history is theirs from message ${first} on.`;
    case 'not_in_room':
      return 'They are no member of the room, and do not read it.';
  }
}

function marker(seq: number): string {
  return seq === 0 ? 'They have marked nothing as read.' : `Their read marker stands at ${seq}.`;
}

/** Where a connection stands. `when` writes a time. */
export function connectionWords(at: TracedConnection, seq: number, when: (ts: number) => string): string {
  const waits = at.waiting_bytes > 0 ? ` Its socket has yet to take ${at.waiting_bytes} bytes.` : '';
  return stands(at, seq, when) + waits;
}

function stands(at: TracedConnection, seq: number, when: (ts: number) => string): string {
  const cursor = at.cursor ?? 0;
  switch (at.state) {
    case 'handed':
      return at.behind_since === null
        ? 'Handed over; it reads live.'
        : `Handed over; it reads from the log since ${when(at.behind_since)}.`;
    case 'on_its_way':
      return `Reads live, has ${cursor}.`;
    case 'behind': {
      const left = seq - cursor;
      return `Has ${cursor}, ${left === 1 ? 'one message' : `${left} messages`} to go; behind since ${when(at.behind_since ?? at.subscribed_at)}.`;
    }
    case 'later':
      return `Subscribed at ${when(at.subscribed_at)}, to what comes behind ${at.from}.`;
    case 'at_edge':
      return `Read at an edge since ${when(at.subscribed_at)}, from ${at.from + 1} on.`;
  }
}

/** How a subscription ended, and what it had. */
export function closedWords(gone: TracedClosed): string {
  return `${HAD[gone.state]} ${endingWords(gone)}`;
}

const HAD: Readonly<Record<TracedClosed['state'], string>> = {
  missed: 'It was not handed over.',
  before: 'It ended before the message was committed.',
  later: 'It had begun behind the message.',
  at_edge: 'Whether an edge handed it over is not known here.',
  handed: 'It was handed over.',
};

function endingWords({ reason, ending, is_open }: TracedClosed): string {
  if (reason !== null) return `Unsubscribed: ${reason}.`;
  switch (ending?.by) {
    case 'server':
      return `Closed by the gateway with ${ending.code}: ${ending.reason}.`;
    case 'client':
      return ending.code === null ? 'Closed by the client.' : `Closed by the client with ${ending.code}.`;
    case 'nobody':
      return 'The connection broke off, or was silent for too long.';
    default:
      return is_open ? 'Unsubscribed; the connection is still open.' : 'How it ended is not remembered.';
  }
}

/** "Ada Lovelace", or what else is known of somebody. */
export function nameOf({ display_name, username, id }: TracedUser): string {
  return display_name ?? username ?? id;
}
