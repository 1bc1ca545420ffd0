// The words in which administrators read what the gateway says.

import { expect, it } from 'vitest';
import type { AdminUser, Invite } from '../../sdk';
import { actionWords } from './actions';
import { stateOf } from './InvitesPage';
import { waysIn } from './UsersPage';

const NOW = 1_700_000_000_000;
const HOUR = 3_600_000;

const user = (factors: Partial<AdminUser['factors']>, kind: AdminUser['kind'] = 'person') =>
  ({ kind, factors: { password: false, passkeys: 0, links: 0, totp: false, ...factors } }) as AdminUser;

it('says how somebody signs in', () => {
  expect(waysIn(user({ passkeys: 2, password: true, totp: true, links: 1 }))).toBe(
    '2 passkeys, password with second factor, 1 linked account',
  );
  expect(waysIn(user({ passkeys: 1 }))).toBe('1 passkey');
  expect(waysIn(user({}))).toBe('no way to sign in');
  expect(waysIn(user({}, 'bot'))).toBe('');
});

it('says how an invite stands', () => {
  const invite = (rest: Partial<Invite>) =>
    stateOf({ uses: 0, max_uses: 1, expires_at: NOW + 2 * HOUR, ...rest } as Invite, NOW);
  expect(invite({})).toBe('ends in 2 hours');
  expect(invite({ uses: 1 })).toBe('used up');
  expect(invite({ expires_at: NOW - 2 * HOUR })).toBe('ended 2 hours ago');
  expect(invite({ uses: 1, revoked_at: NOW - 2 * HOUR })).toBe('taken back 2 hours ago');
});

it('also names what a newer server records', () => {
  expect(actionWords('passkey_added')).toBe('Added a passkey');
  expect(actionWords('robot_fed')).toBe('Robot fed');
});
