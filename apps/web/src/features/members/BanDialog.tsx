// Banning or muting somebody, with a reason and an end if there are any to give.

import { useState } from 'react';
import { useChat } from '../../app/context';
import type { Room, User } from '../../sdk';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, Select, TextField } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import rooms from '../rooms/rooms.module.css';
import styles from './members.module.css';

export type Measure = 'ban' | 'mute';

const WORDS = {
  ban: {
    title: 'Ban',
    done: 'was banned from',
    text: 'They leave the room at once and cannot come back until the ban is lifted. What they said stays.',
  },
  mute: {
    title: 'Mute',
    done: 'is muted in',
    text: 'They stay in the room and read along, but say nothing until the mute is lifted.',
  },
};

const HOUR_MS = 3_600_000;
const TERMS = [
  { value: 0, label: 'when it is lifted' },
  { value: 1, label: 'in an hour' },
  { value: 24, label: 'in a day' },
  { value: 7 * 24, label: 'in a week' },
  { value: 30 * 24, label: 'in 30 days' },
];

interface BanDialogProps {
  measure: Measure;
  user: User;
  room: Room;
  onClose(): void;
}

export function BanDialog({ measure, user, room, onClose }: BanDialogProps) {
  const chat = useChat();
  const [reason, setReason] = useState('');
  const [hours, setHours] = useState(0);
  const words = WORDS[measure];
  const form = useAuthForm(['reason'], async () => {
    await chat.client.api[measure](room.id, user.id, {
      ...(reason.trim() ? { reason: reason.trim() } : {}),
      ...(hours > 0 ? { expires_at: Date.now() + hours * HOUR_MS } : {}),
    });
    chat.toasts.show(`${user.display_name} ${words.done} ${room.title}.`);
    onClose();
    const { people } = chat;
    const lists =
      measure === 'ban'
        ? [people.loadMembers(room.id), people.loadBans(room.id)]
        : [people.loadMutes(room.id)];
    await Promise.allSettled(lists);
  });
  return (
    <Dialog title={`${words.title} ${user.display_name}?`} onClose={onClose}>
      <form className={rooms.form} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <p className={styles.dialogText}>{words.text}</p>
        <TextField
          label="Reason"
          hint={measure === 'ban' ? 'Optional. Everybody in the room can read it.' : 'Optional.'}
          maxLength={200}
          value={reason}
          error={form.errorAt('reason')}
          onChange={(event) => setReason(event.target.value)}
        />
        <Select label="Ends" value={hours} options={TERMS} onChange={setHours} />
        <DialogActions>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" variant="danger" busy={form.busy}>
            {words.title}
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
