// Making a room: a title, the address that follows from it, and who may find it.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { navigate, paths } from '../../app/router';
import { slugOf } from '../../lib/identity';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, Switch, TextField } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import styles from './rooms.module.css';

export function CreateRoomDialog({ onClose }: { onClose(): void }) {
  const chat = useChat();
  const [title, setTitle] = useState('');
  const [ownSlug, setOwnSlug] = useState<string | null>(null);
  const [open, setOpen] = useState(true);
  const slug = ownSlug ?? slugOf(title);
  const form = useAuthForm(['id', 'title'], async () => {
    const room = await chat.createRoom({ id: slug, title: title.trim(), settings: { public: open } });
    onClose();
    navigate(paths.room(room.id));
  });
  return (
    <Dialog title="New room" onClose={onClose}>
      <form className={styles.form} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <TextField
          label="Title"
          name="title"
          placeholder="Design crit"
          required
          maxLength={80}
          value={title}
          error={form.errorAt('title')}
          onChange={(event) => setTitle(event.target.value)}
        />
        <TextField
          label="Address"
          name="slug"
          prefix="/r/"
          required
          autoCapitalize="none"
          spellCheck={false}
          maxLength={64}
          pattern="[a-z0-9][a-z0-9._\-]*"
          title="Small letters, digits, dots, dashes and underscores, starting with a letter or digit"
          value={slug}
          hint="Where the room is found. It stays as it is."
          error={form.errorAt('id')}
          onChange={(event) => setOwnSlug(event.target.value.toLowerCase())}
        />
        <Switch
          label="Public"
          hint={open ? 'Everyone signed in can find it and join.' : 'Only people you add can see it.'}
          checked={open}
          onChange={setOpen}
        />
        <DialogActions>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button
            type="submit"
            variant="primary"
            busy={form.busy}
            disabled={title.trim() === '' || slug === ''}
          >
            Create room
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
