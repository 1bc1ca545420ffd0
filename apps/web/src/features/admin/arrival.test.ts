import { expect, test } from 'vitest';
import type { TracedClosed, TracedConnection } from '../../sdk';
import { closedWords, connectionWords } from './arrival';

const user = { id: 'u1', username: 'ben', display_name: 'Ben' };
const connection = { id: 'c1', way: 'socket', session: 's1', device: null, ip: null } as const;
const when = (ts: number) => `t${ts}`;

test('a connection that is behind says how far, since when, and what its socket has not taken', () => {
  const behind: TracedConnection = {
    user,
    connection,
    state: 'behind',
    subscribed_at: 1,
    from: 0,
    cursor: 7,
    behind_since: 5,
    waiting_bytes: 300,
  };
  expect(connectionWords(behind, 9, when)).toBe(
    'Has 7, 2 messages to go; behind since t5. Its socket has yet to take 300 bytes.',
  );
  expect(connectionWords({ ...behind, waiting_bytes: 0 }, 8, when)).toBe(
    'Has 7, one message to go; behind since t5.',
  );
});

test('one that has ended says what it had and how it ended', () => {
  const gone: TracedClosed = {
    user,
    connection,
    state: 'missed',
    subscribed_at: 1,
    ended_at: 2,
    from: 0,
    cursor: 3,
    reason: null,
    is_open: false,
    ending: { by: 'client', code: 1001 },
  };
  expect(closedWords(gone)).toBe('It was not handed over. Closed by the client with 1001.');
  expect(closedWords({ ...gone, ending: { by: 'server', code: 4001, reason: 'over' } })).toBe(
    'It was not handed over. Closed by the gateway with 4001: over.',
  );
  expect(closedWords({ ...gone, state: 'handed', ending: null, is_open: true })).toBe(
    'It was handed over. Unsubscribed; the connection is still open.',
  );
  expect(closedWords({ ...gone, reason: 'banned' })).toBe('It was not handed over. Unsubscribed: banned.');
});
