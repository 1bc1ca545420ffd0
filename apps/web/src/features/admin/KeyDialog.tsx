// A new API key, and then the key itself, shown once.

import { useId, useState } from 'react';
import { useChat } from '../../app/context';
import type { ApiScope } from '../../sdk';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { FormError, Select, TextField } from '../../ui/Field';
import { useAuthForm } from '../auth/useAuthForm';
import { CopyField } from '../security/CopyField';
import security from '../security/security.module.css';
import styles from './admin.module.css';

const SCOPES: { scope: ApiScope; label: string }[] = [
  { scope: 'read', label: 'Read rooms, messages and people' },
  { scope: 'send', label: 'Send, edit and react' },
  { scope: 'rooms', label: 'Make and change rooms and members' },
  { scope: 'presence', label: 'Show presence, typing and what is read' },
  { scope: 'chat_token', label: "Mint tokens for a back end's own users" },
  { scope: 'admin', label: 'Administer the server' },
];
const DAY_MS = 86_400_000;
const LIVES = [
  { value: 0, label: 'until it is revoked' },
  { value: 30, label: '30 days' },
  { value: 90, label: '90 days' },
  { value: 365, label: 'a year' },
];

export function KeyDialog({ onClose, onDone }: { onClose(): void; onDone(): void }) {
  const { admin } = useChat().client;
  const id = useId();
  const [name, setName] = useState('');
  const [scopes, setScopes] = useState<ReadonlySet<ApiScope>>(new Set(['read', 'send']));
  const [days, setDays] = useState(90);
  const [made, setMade] = useState<{ key: string; username: string } | null>(null);
  const form = useAuthForm(['name'], async () => {
    const answer = await admin.createApiKey({
      name: name.trim(),
      scopes: SCOPES.map(({ scope }) => scope).filter((scope) => scopes.has(scope)),
      ...(days > 0 ? { expires_at: Date.now() + days * DAY_MS } : {}),
    });
    setMade({ key: answer.key, username: answer.user.username });
    onDone();
  });
  if (made !== null) {
    return (
      <Dialog title="Your new key" onClose={onClose}>
        <div className={security.question}>
          <p className={security.text}>
            It speaks as the bot @{made.username}. Copy it now: it is not shown again, and nobody can look it
            up.
          </p>
          <CopyField label="API key" value={made.key} />
          <DialogActions>
            <Button variant="primary" onClick={onClose}>
              Done
            </Button>
          </DialogActions>
        </div>
      </Dialog>
    );
  }
  const toggle = (scope: ApiScope) => {
    const next = new Set(scopes);
    if (!next.delete(scope)) next.add(scope);
    setScopes(next);
  };
  return (
    <Dialog title="New API key" onClose={onClose}>
      <form className={security.question} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <TextField
          label="Name"
          placeholder="Tide bot"
          hint="A bot account of this name is made for it."
          required
          maxLength={64}
          value={name}
          error={form.errorAt('name')}
          onChange={(event) => setName(event.target.value)}
        />
        <fieldset className={styles.checks}>
          <legend>It may</legend>
          {SCOPES.map(({ scope, label }) => (
            <label key={scope} className={styles.check} htmlFor={`${id}-${scope}`}>
              <input
                id={`${id}-${scope}`}
                type="checkbox"
                checked={scopes.has(scope)}
                onChange={() => toggle(scope)}
              />
              <span>{label}</span>
            </label>
          ))}
        </fieldset>
        <Select label="Good for" value={days} options={LIVES} onChange={setDays} />
        <DialogActions>
          <Button variant="ghost" onClick={onClose}>
            Cancel
          </Button>
          <Button
            type="submit"
            variant="primary"
            busy={form.busy}
            disabled={name.trim() === '' || scopes.size === 0}
          >
            Make key
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
