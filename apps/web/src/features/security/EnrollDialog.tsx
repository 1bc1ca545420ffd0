// Setting up the second factor: a QR code for the app, and the first code as the proof that it came across.

import { useEffect, useState } from 'react';
import { useChat } from '../../app/context';
import { isCancelled } from '../../sdk';
import { qrOf, type Qr } from '../../lib/qr';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { FormError } from '../../ui/Field';
import { Spinner } from '../../ui/Misc';
import { CodeField } from '../auth/CodeField';
import { useAuthForm } from '../auth/useAuthForm';
import { CODE_WORDS } from '../auth/words';
import styles from './security.module.css';

interface Enrolment {
  secret: string;
  uri: string;
  qr: Qr;
}

interface EnrollDialogProps {
  onClose(): void;
  onDone(recoveryCodes: string[]): void;
}

export function EnrollDialog({ onClose, onDone }: EnrollDialogProps) {
  const chat = useChat();
  const { auth } = chat.client;
  const [enrolment, setEnrolment] = useState<Enrolment | null>(null);
  const [code, setCode] = useState('');
  // biome-ignore lint/correctness/useExhaustiveDependencies: once a dialog; a second enrolment would void the first
  useEffect(() => {
    let gone = false;
    const begin = async () => {
      const { secret, otpauth_uri } = await auth.enrollTotp();
      const qr = await qrOf(otpauth_uri);
      if (!gone) setEnrolment({ secret, uri: otpauth_uri, qr });
    };
    begin().catch((error: unknown) => {
      if (gone) return;
      if (!isCancelled(error)) chat.toasts.failed(error);
      onClose();
    });
    return () => {
      gone = true;
    };
  }, [auth]);
  const form = useAuthForm(
    ['code'],
    async () => {
      try {
        onDone(await auth.confirmTotp(code.trim()));
      } catch (error) {
        setCode('');
        throw error;
      }
    },
    CODE_WORDS,
  );
  if (enrolment === null) {
    return (
      <Dialog title="Set up a second factor" onClose={onClose}>
        <Spinner label="Loading" />
      </Dialog>
    );
  }
  return (
    <Dialog title="Set up a second factor" onClose={onClose}>
      <form className={styles.question} onSubmit={form.submit}>
        <p className={styles.text}>Scan this with an authenticator app, then enter the code that it shows.</p>
        <QrCode qr={enrolment.qr} />
        <p className={styles.secret}>
          On this device? <a href={enrolment.uri}>Open the app</a>, or type this key into it:
          <code>{groups(enrolment.secret)}</code>
        </p>
        <FormError>{form.formError}</FormError>
        <CodeField value={code} error={form.errorAt('code')} onChange={setCode} />
        <DialogActions>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" variant="primary" busy={form.busy} disabled={code.length < 6}>
            Turn on
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

/** Always dark on white: cameras read the opposite badly. */
function QrCode({ qr }: { qr: Qr }) {
  const quiet = 4;
  const size = qr.size + 2 * quiet;
  return (
    <svg
      className={styles.qr}
      viewBox={`${-quiet} ${-quiet} ${size} ${size}`}
      role="img"
      aria-label="QR code with the key"
      shapeRendering="crispEdges"
    >
      <rect x={-quiet} y={-quiet} width={size} height={size} fill="#fff" />
      <path d={qr.path} fill="#000" />
    </svg>
  );
}

function groups(secret: string): string {
  return secret.match(/.{1,4}/g)?.join(' ') ?? secret;
}
