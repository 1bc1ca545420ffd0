// The rights shown are those the gateway gives.

import { describe, expect, it } from 'vitest';
import { managesMembers, mayRemove, rolesToGive } from './rights';

describe('rights over members', () => {
  it('lets owners and moderators manage, and nobody else', () => {
    expect((['owner', 'moderator', 'member', 'guest', null] as const).map(managesMembers)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });

  it('puts everybody below an owner, and members and guests below a moderator', () => {
    const theirs = ['owner', 'moderator', 'member', 'guest'] as const;
    expect(theirs.map((role) => mayRemove('owner', role))).toEqual([true, true, true, true]);
    expect(theirs.map((role) => mayRemove('moderator', role))).toEqual([false, false, true, true]);
    expect(theirs.map((role) => mayRemove('member', role))).toEqual([false, false, false, false]);
  });

  it('offers the roles one may give, without the present one', () => {
    expect(rolesToGive('owner', 'guest')).toEqual(['owner', 'moderator', 'member']);
    expect(rolesToGive('moderator', 'member')).toEqual(['guest']);
    expect(rolesToGive('moderator', 'owner')).toEqual([]);
  });
});
