// A link for somebody who cannot get in any more.

import { useState } from 'react';
import { useChat } from '../../app/context';
import type { AdminUser } from '../../sdk';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, Switch } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import { CopyField } from '../security/CopyField';
import security from '../security/security.module.css';

export function RecoveryDialog({ user, onClose }: { user: AdminUser; onClose(): void }) {
  const { admin } = useChat().client;
  const [reset, setReset] = useState(false);
  const [url, setUrl] = useState<string | null>(null);
  const form = useAuthForm([], async () => {
    setUrl((await admin.recoveryLink(user.id, reset)).url);
  });
  if (url !== null) {
    return (
      <Dialog title="Recovery link" onClose={onClose}>
        <div className={security.question}>
          <p className={security.text}>
            Give it to {user.display_name}, and to nobody else: whoever opens it gets in. It works once, for
            half an hour, and is not shown again.
          </p>
          <CopyField label="Recovery link" value={url} />
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
    <Dialog title={`Recovery link for ${user.display_name}`} onClose={onClose}>
      <form className={security.question} onSubmit={form.submit}>
        <p className={security.text}>
          With it they set a new password. Using it signs them out everywhere else.
        </p>
        <FormError>{form.formError}</FormError>
        <Switch
          label="Remove the second factor too"
          hint="If the app and the recovery codes are lost. Make sure that it is really them who ask."
          checked={reset}
          onChange={setReset}
        />
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
