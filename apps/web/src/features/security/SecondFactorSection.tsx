// The second factor: an authenticator app, and recovery codes for when it is lost.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { longTime } from '../../lib/format';
import { StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { Confirm, Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, TextField } from '../../ui/Field';
import { Spinner } from '../../ui/Misc';
import { useAuthForm } from '../auth/useAuthForm';
import { EnrollDialog } from './EnrollDialog';
import { Failed } from './PasskeyList';
import { RecoveryCodes } from './RecoveryCodes';
import { Section } from './Section';
import styles from './security.module.css';
import { useLoaded } from './useLoaded';

type Open = 'enroll' | 'disable' | 'renew' | { codes: string[] } | null;

export function SecondFactorSection() {
  const chat = useChat();
  const { auth } = chat.client;
  const [load] = useState(() => () => auth.totp());
  const [state, reload] = useLoaded(load);
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const told = (codes: string[]) => {
    setOpen({ codes });
    reload();
  };
  const enabled = state.status === 'ready' && state.value.enabled;
  return (
    <Section
      title="Second factor"
      lead="After the password, a code from an app on your phone. Passkeys do not need it."
      action={
        state.status === 'ready' &&
        !enabled && (
          <Button
            onClick={() => {
              setOpen('enroll');
            }}
          >
            Set up
          </Button>
        )
      }
    >
      {state.status === 'loading' && <Spinner label="Loading" />}
      {state.status === 'failed' && <Failed what="Your second factor" again={reload} />}
      {state.status === 'ready' && enabled && (
        <div className={styles.facts}>
          <p>
            <span className={styles.on}>On</span>
            {state.value.confirmed_at != null && ` since ${longTime(state.value.confirmed_at)}`}
          </p>
          <p className={state.value.recovery_codes_left < 3 ? styles.danger : undefined}>
            {codesLeft(state.value.recovery_codes_left)}
          </p>
          <div className={styles.row}>
            <Button size="s" onClick={() => setOpen('renew')}>
              New recovery codes
            </Button>
            <Button size="s" variant="ghost" onClick={() => setOpen('disable')}>
              Turn off
            </Button>
          </div>
        </div>
      )}
      {open === 'enroll' && <EnrollDialog onClose={close} onDone={told} />}
      {open === 'disable' && <DisableDialog onClose={close} onDone={reload} />}
      {open === 'renew' && (
        <Confirm
          title="New recovery codes?"
          text="The codes that you have now will no longer work."
          action="Make new codes"
          onConfirm={() => void auth.newRecoveryCodes().then(told, chat.toasts.failed)}
          onClose={() => setOpen((now) => (now === 'renew' ? null : now))}
        />
      )}
      {open !== null && typeof open === 'object' && <RecoveryCodes codes={open.codes} onClose={close} />}
    </Section>
  );
}

function codesLeft(left: number): string {
  if (left === 0) return 'No recovery code is left.';
  return left === 1 ? 'One recovery code is left.' : `${left} recovery codes are left.`;
}

/** Without a second factor a password must be longer; the gateway looks at it again. */
function DisableDialog({ onClose, onDone }: { onClose(): void; onDone(): void }) {
  const chat = useChat();
  const [password, setPassword] = useState('');
  const form = useAuthForm(['password'], async () => {
    await chat.client.auth.disableTotp(password || undefined).catch((error: unknown) => {
      if (!(error instanceof StackError) || error.code !== 'invalid_credentials') throw error;
      throw new StackError('invalid_field', 'That is not your password', { field: 'password' });
    });
    chat.toasts.show('The second factor is off.');
    onDone();
    onClose();
  });
  return (
    <Dialog title="Turn off the second factor?" onClose={onClose}>
      <form className={styles.question} onSubmit={form.submit}>
        <p className={styles.text}>
          Your password alone then signs you in, so it must have 15 characters. The recovery codes end too.
        </p>
        <FormError>{form.formError}</FormError>
        <TextField
          label="Your password"
          type="password"
          autoComplete="current-password"
          hint="Leave it empty if you have none."
          value={password}
          error={form.errorAt('password')}
          onChange={(event) => setPassword(event.target.value)}
        />
        <DialogActions>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" variant="danger" busy={form.busy}>
            Turn off
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
