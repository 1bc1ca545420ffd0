// A line about the room itself: who came, who went, what changed.

import { clock } from '../../lib/format';
import type { TimelineNote } from '../../sdk';
import styles from './message.module.css';
import { useName } from './names';

function what(note: TimelineNote, person: string, actor: string, self: boolean): string {
  if (note.event.type === 'room') {
    return note.event.payload.action === 'created'
      ? `${actor} created the room`
      : `${actor} changed the room`;
  }
  const { action, role } = note.event.payload;
  switch (action) {
    case 'joined':
      if (self) return `${person} joined`;
      return `${actor} added ${person}${role === 'guest' ? ' as a guest' : ''}`;
    case 'left':
      return `${person} left`;
    case 'removed':
      return self ? `${person} left` : `${actor} removed ${person}`;
    case 'banned':
      return `${actor} banned ${person}`;
    case 'unbanned':
      return `${actor} lifted the ban on ${person}`;
    case 'muted':
      return `${actor} muted ${person}`;
    case 'unmuted':
      return `${person} may speak again`;
    default:
      return `${actor} made ${person} ${role === 'owner' ? 'an owner' : `a ${role ?? 'member'}`}`;
  }
}

export function NoteRow({ note }: { note: TimelineNote }) {
  const { sender } = note.event.payload;
  const personId = note.event.type === 'member' ? note.event.payload.user_id : sender;
  const person = useName(personId);
  const actor = useName(sender);
  return (
    <p className={styles.note}>
      <span>{what(note, person, actor, personId === sender)}</span>
      <time dateTime={new Date(note.ts).toISOString()}>{clock(note.ts)}</time>
    </p>
  );
}
