// The name others see.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { useStore } from '../../app/hooks';
import { Avatar } from '../../ui/Avatar';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import styles from './settings.module.css';

export function ProfileForm() {
  const chat = useChat();
  const me = useStore(chat.me);
  const [name, setName] = useState(me.display_name);
  const form = useAuthForm(['display_name'], async () => {
    chat.updateMe(await chat.client.api.updateMe({ display_name: name.trim() }));
    chat.toasts.show('Your name was changed.');
  });
  return (
    <form className={styles.form} onSubmit={form.submit}>
      <div className={styles.person}>
        <Avatar id={me.id} name={name.trim() || me.username} size="l" />
        <div>
          <p className={styles.personName}>{name.trim() || me.username}</p>
          <p className={styles.muted}>@{me.username}</p>
        </div>
      </div>
      <FormError>{form.formError}</FormError>
      <TextField
        label="Your name"
        autoComplete="name"
        required
        maxLength={64}
        value={name}
        hint="Shown beside everything you write."
        error={form.errorAt('display_name')}
        onChange={(event) => setName(event.target.value)}
      />
      <div>
        <Button
          type="submit"
          variant="primary"
          busy={form.busy}
          disabled={name.trim() === '' || name.trim() === me.display_name}
        >
          Save
        </Button>
      </div>
    </form>
  );
}
