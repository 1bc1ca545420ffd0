// Banning somebody, with a reason if there is one to give.

import { useState } from 'react';
import { useChat } from '../../app/context';
import type { Room, User } from '../../sdk';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, TextField } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import rooms from '../rooms/rooms.module.css';
import styles from './members.module.css';

export function BanDialog({ user, room, onClose }: { user: User; room: Room; onClose(): void }) {
  const chat = useChat();
  const [reason, setReason] = useState('');
  const form = useAuthForm(['reason'], async () => {
    await chat.client.api.ban(room.id, user.id, reason.trim() || undefined);
    chat.toasts.show(`${user.display_name} was banned from ${room.title}.`);
    onClose();
    await Promise.allSettled([chat.people.loadMembers(room.id), chat.people.loadBans(room.id)]);
  });
  return (
    <Dialog title={`Ban ${user.display_name}?`} onClose={onClose}>
      <form className={rooms.form} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <p className={styles.dialogText}>
          They leave the room at once and cannot come back until the ban is lifted. What they said stays.
        </p>
        <TextField
          label="Reason"
          hint="Optional. Everybody in the room can read it."
          maxLength={200}
          value={reason}
          error={form.errorAt('reason')}
          onChange={(event) => setReason(event.target.value)}
        />
        <DialogActions>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" variant="danger" busy={form.busy}>
            Ban
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
