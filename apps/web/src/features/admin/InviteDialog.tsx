// A new invite, and then its link, shown once.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { useStore } from '../../app/hooks';
import type { User } from '../../sdk';
import { joinedRooms } from '../../state/rooms';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, Select, TextField } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import { CopyField } from '../security/CopyField';
import security from '../security/security.module.css';

const ROLES = [
  { value: 'member', label: 'Member' },
  { value: 'admin', label: 'Administrator' },
] as const;
const USES = [
  { value: 1, label: 'One person' },
  { value: 5, label: '5 people' },
  { value: 25, label: '25 people' },
  { value: 100, label: '100 people' },
];
const DAY = 86_400;
const LIVES = [
  { value: DAY, label: 'a day' },
  { value: 7 * DAY, label: 'a week' },
  { value: 30 * DAY, label: '30 days' },
  { value: 90 * DAY, label: '90 days' },
];

export function InviteDialog({ onClose, onDone }: { onClose(): void; onDone(): void }) {
  const chat = useChat();
  const rooms = joinedRooms(useStore(chat.rooms.state)).filter(({ role }) => role !== 'guest');
  const [note, setNote] = useState('');
  const [role, setRole] = useState<User['role']>('member');
  const [uses, setUses] = useState(1);
  const [life, setLife] = useState(7 * DAY);
  const [room, setRoom] = useState('');
  const [url, setUrl] = useState<string | null>(null);
  const form = useAuthForm(['note'], async () => {
    const made = await chat.client.admin.createInvite({
      role,
      max_uses: uses,
      expires_in_s: life,
      ...(note.trim() ? { note: note.trim() } : {}),
      ...(room ? { rooms: [{ room, role: 'member' }] } : {}),
    });
    setUrl(made.url);
    onDone();
  });
  if (url !== null) {
    return (
      <Dialog title="Your invite link" onClose={onClose}>
        <div className={security.question}>
          <p className={security.text}>
            Send it to {uses === 1 ? 'the person' : 'the people'} you invite. It is not shown again.
          </p>
          <CopyField label="Invite link" value={url} />
          <DialogActions>
            <Button variant="primary" onClick={onClose}>
              Done
            </Button>
          </DialogActions>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title="New invite" onClose={onClose}>
      <form className={security.question} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <TextField
          label="Note"
          placeholder="The new harbour crew"
          hint="For you and the other administrators."
          maxLength={200}
          value={note}
          error={form.errorAt('note')}
          onChange={(event) => setNote(event.target.value)}
        />
        <Select label="For" value={uses} options={USES} onChange={setUses} />
        <Select label="Good for" value={life} options={LIVES} onChange={setLife} />
        <Select label="As" value={role} options={ROLES} onChange={setRole} />
        {rooms.length > 0 && (
          <Select
            label="Into a room"
            value={room}
            options={[
              { value: '', label: 'None' },
              ...rooms.map(({ id, title }) => ({ value: id, label: title })),
            ]}
            onChange={setRoom}
          />
        )}
        <DialogActions>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" variant="primary" busy={form.busy}>
            Make link
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
