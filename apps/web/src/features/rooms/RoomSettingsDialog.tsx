// What an owner may change about a room.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { navigate, paths } from '../../app/router';
import type { Room } from '../../sdk';
import { Button } from '../../ui/Button';
import { Confirm, Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, Select, Switch, TextField } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import styles from './rooms.module.css';

const SLOW = [
  { value: 0, label: 'Off' },
  { value: 5, label: '5 seconds' },
  { value: 30, label: '30 seconds' },
  { value: 60, label: '1 minute' },
  { value: 300, label: '5 minutes' },
];

const RETENTION = [
  { value: 0, label: 'For good' },
  { value: 365, label: '1 year' },
  { value: 90, label: '90 days' },
  { value: 30, label: '30 days' },
  { value: 7, label: '7 days' },
];

const RETENTION_COUNT = [
  { value: 0, label: 'All of them' },
  { value: 100_000, label: 'The newest 100,000' },
  { value: 10_000, label: 'The newest 10,000' },
  { value: 1000, label: 'The newest 1,000' },
];

/** The choices, with the present value among them even when it was set elsewhere. */
function including(options: { value: number; label: string }[], value: number, unit: string) {
  if (options.some((option) => option.value === value)) return options;
  return [...options, { value, label: `${value} ${unit}` }];
}

export function RoomSettingsDialog({ room, onClose }: { room: Room; onClose(): void }) {
  const chat = useChat();
  const [title, setTitle] = useState(room.title);
  const [settings, setSettings] = useState(room.settings);
  const [deleting, setDeleting] = useState(false);
  const form = useAuthForm(['title'], async () => {
    const { public: open, allow_guests, history, slow_mode_s, retention_days, retention_messages } = settings;
    chat.rooms.put(
      await chat.client.api.updateRoom(room.id, {
        title: title.trim(),
        settings: { public: open, allow_guests, history, slow_mode_s, retention_days, retention_messages },
      }),
    );
    onClose();
  });
  const remove = () => {
    chat.deleteRoom(room.id).then(() => navigate(paths.home), chat.toasts.failed);
    onClose();
  };
  if (deleting) {
    return (
      <Confirm
        title={`Delete ${room.title}?`}
        text="The room and everything said in it will be gone for everyone. This cannot be undone."
        action="Delete room"
        onConfirm={remove}
        onClose={() => setDeleting(false)}
      />
    );
  }
  return (
    <Dialog title="Room settings" onClose={onClose}>
      <form className={styles.form} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <TextField
          label="Title"
          required
          maxLength={80}
          value={title}
          error={form.errorAt('title')}
          onChange={(event) => setTitle(event.target.value)}
        />
        <Switch
          label="Public"
          hint="Everyone signed in can find it and join."
          checked={settings.public}
          onChange={(on) =>
            setSettings({ ...settings, public: on, allow_guests: on && settings.allow_guests })
          }
        />
        <Switch
          label="Open to read"
          hint="People who have not joined may read along."
          checked={settings.allow_guests}
          disabled={!settings.public}
          onChange={(on) => setSettings({ ...settings, allow_guests: on })}
        />
        <Select
          label="Slow mode"
          hint="The least time between two messages of one person."
          value={settings.slow_mode_s}
          options={including(SLOW, settings.slow_mode_s, 'seconds')}
          onChange={(slow_mode_s) => setSettings({ ...settings, slow_mode_s })}
        />
        <Select
          label="Keep messages"
          value={settings.retention_days}
          options={including(RETENTION, settings.retention_days, 'days')}
          onChange={(retention_days) => setSettings({ ...settings, retention_days })}
        />
        <Select
          label="Keep how many"
          hint="Edits and reactions count too. What is not kept is gone for good."
          value={settings.retention_messages}
          options={including(RETENTION_COUNT, settings.retention_messages, 'messages')}
          onChange={(retention_messages) => setSettings({ ...settings, retention_messages })}
        />
        <Select
          label="New members see"
          value={settings.history}
          options={[
            { value: 'members', label: 'All history' },
            { value: 'joined', label: 'From joining on' },
          ]}
          onChange={(history) => setSettings({ ...settings, history })}
        />
        <DialogActions>
          <span className={styles.spread}>
            <Button variant="ghost" className={styles.dangerText} onClick={() => setDeleting(true)}>
              Delete room
            </Button>
          </span>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" variant="primary" busy={form.busy}>
            Save
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
