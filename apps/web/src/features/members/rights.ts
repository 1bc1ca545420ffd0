// What somebody may do with another member, as the gateway has it; it only spares people answers of "forbidden".

import type { RoomRole } from '../../sdk';

const RANK: Record<RoomRole, number> = { guest: 0, member: 1, moderator: 2, owner: 3 };

/** Whether somebody brings people in and keeps them out. */
export function managesMembers(own: RoomRole | null): boolean {
  return own === 'owner' || own === 'moderator';
}

/** Whether somebody may remove and ban a member: owners anybody, moderators those below them. */
export function mayRemove(own: RoomRole | null, theirs: RoomRole): boolean {
  return own === 'owner' || (own === 'moderator' && RANK[theirs] < RANK.moderator);
}

/** The roles somebody may give to a member, from most to least, without the one they have. */
export function rolesToGive(own: RoomRole | null, theirs: RoomRole): RoomRole[] {
  if (!mayRemove(own, theirs)) return [];
  const roles: RoomRole[] = own === 'owner' ? ['owner', 'moderator', 'member', 'guest'] : ['member', 'guest'];
  return roles.filter((role) => role !== theirs);
}
