// One's passkeys: adding, naming, removing.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { ago, longTime } from '../../lib/format';
import { type Passkey, StackError } from '../../sdk';
import { Button, IconButton } from '../../ui/Button';
import { Confirm, Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, TextField } from '../../ui/Field';
import { Icon } from '../../ui/Icon';
import { Spinner } from '../../ui/Misc';
import { noPasskeys, useFacts } from '../auth/facts';
import { useAuthForm } from '../auth/useAuthForm';
import settings from '../settings/settings.module.css';
import { thisDevice } from '../settings/device';
import { Section } from './Section';
import styles from './security.module.css';
import { useLoaded } from './useLoaded';

export function PasskeyList() {
  const chat = useChat();
  const { auth } = chat.client;
  const [load] = useState(() => () => auth.passkeys());
  const [list, reload] = useLoaded(load);
  const [adding, setAdding] = useState(false);
  const [renaming, setRenaming] = useState<Passkey | null>(null);
  const [removing, setRemoving] = useState<Passkey | null>(null);
  const { registration } = useFacts();
  const obstacle = noPasskeys(registration.passkeys);
  const add = () => {
    setAdding(true);
    auth
      .addPasskey(thisDevice())
      .then(() => {
        chat.toasts.show('Your passkey was added.');
        reload();
      })
      .catch(chat.toasts.failed)
      .finally(() => setAdding(false));
  };
  const remove = (passkey: Passkey) => {
    auth
      .removePasskey(passkey.id)
      .then(() => {
        chat.toasts.show(`${passkey.name} was removed.`);
        reload();
      })
      .catch((error: unknown) => {
        if (error instanceof StackError && error.code === 'conflict')
          chat.toasts.show('That is your last way in. Add another one first.', 'danger');
        else chat.toasts.failed(error);
      });
  };
  return (
    <Section
      title="Passkeys"
      lead="Sign in with your fingerprint, your face or the lock of your screen."
      action={
        obstacle === null && (
          <Button variant="primary" busy={adding} onClick={add}>
            Add a passkey
          </Button>
        )
      }
    >
      {obstacle !== null && <p className={styles.notice}>{obstacle}</p>}
      {list.status === 'loading' && <Spinner label="Loading passkeys" />}
      {list.status === 'failed' && <Failed what="Your passkeys" again={reload} />}
      {list.status === 'ready' && list.value.length === 0 && (
        <p className={styles.none}>You have none yet.</p>
      )}
      {list.status === 'ready' && list.value.length > 0 && (
        <ul className={settings.sessions}>
          {list.value.map((passkey) => (
            <li key={passkey.id} className={settings.session} data-testid="passkey">
              <span className={settings.sessionIcon}>
                <Icon name="passkey" />
              </span>
              <span className={settings.sessionText}>
                <span className={settings.sessionName}>{passkey.name}</span>
                <PasskeyFacts passkey={passkey} />
              </span>
              <IconButton
                icon="pencil"
                size="s"
                label={`Rename ${passkey.name}`}
                onClick={() => setRenaming(passkey)}
              />
              <IconButton
                icon="trash"
                size="s"
                label={`Remove ${passkey.name}`}
                onClick={() => setRemoving(passkey)}
              />
            </li>
          ))}
        </ul>
      )}
      {renaming && <Rename passkey={renaming} onClose={() => setRenaming(null)} onDone={reload} />}
      {removing && (
        <Confirm
          title={`Remove ${removing.name}?`}
          text="It signs you in no more. Your device may go on offering it until you delete it there too."
          action="Remove"
          onConfirm={() => remove(removing)}
          onClose={() => setRemoving(null)}
        />
      )}
    </Section>
  );
}

function PasskeyFacts({ passkey }: { passkey: Passkey }) {
  if (passkey.suspended_at != null) {
    return (
      <span className={styles.danger}>
        Switched off: it was seen in two places, so it may have been copied. Remove it and add a new one.
      </span>
    );
  }
  return (
    <span className={settings.muted} title={`Added ${longTime(passkey.created_at)}`}>
      {passkey.last_used_at != null
        ? `Used ${ago(passkey.last_used_at)}`
        : `Added ${ago(passkey.created_at)}, not used yet`}
      {passkey.backed_up ? ' · synced' : ' · on one device only'}
    </span>
  );
}

interface RenameProps {
  passkey: Passkey;
  onClose(): void;
  onDone(): void;
}

function Rename({ passkey, onClose, onDone }: RenameProps) {
  const { client } = useChat();
  const [name, setName] = useState(passkey.name);
  const form = useAuthForm(['name'], async () => {
    await client.auth.renamePasskey(passkey.id, name.trim());
    onDone();
    onClose();
  });
  return (
    <Dialog title="Rename passkey" onClose={onClose}>
      <form className={styles.question} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <TextField
          label="Name"
          required
          maxLength={64}
          value={name}
          error={form.errorAt('name')}
          onChange={(event) => setName(event.target.value)}
        />
        <DialogActions>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" variant="primary" busy={form.busy} disabled={name.trim() === ''}>
            Save
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

export function Failed({ what, again }: { what: string; again(): void }) {
  return (
    <div className={styles.failed}>
      <p>{what} could not be loaded.</p>
      <Button size="s" onClick={again}>
        Try again
      </Button>
    </div>
  );
}
