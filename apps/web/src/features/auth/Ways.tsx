// The ways in that are a button: a passkey, or an account elsewhere.

import type { Provider } from '../../sdk';
import { Button } from '../../ui/Button';
import { Icon } from '../../ui/Icon';
import styles from './auth.module.css';

export function PasskeyButton({
  label,
  busy,
  primary = true,
  onClick,
}: {
  label: string;
  busy: boolean;
  primary?: boolean;
  onClick(): void;
}) {
  return (
    <Button variant={primary ? 'primary' : 'secondary'} busy={busy} onClick={onClick}>
      <Icon name="passkey" size={20} />
      {label}
    </Button>
  );
}

/** Buttons that first ask where to go: what goes along must not stand in an address. */
export function ProviderPicks({
  providers,
  onPick,
}: {
  providers: readonly Provider[];
  onPick(provider: string): void;
}) {
  return providers.map((provider) => (
    <Button key={provider.name} variant="secondary" onClick={() => onPick(provider.name)}>
      Continue with {provider.title}
    </Button>
  ));
}

export function ProviderButtons({
  providers,
  href,
}: {
  providers: readonly Provider[];
  href(provider: string): string;
}) {
  return providers.map((provider) => (
    <a key={provider.name} className={styles.provider} href={href(provider.name)}>
      Continue with {provider.title}
    </a>
  ));
}

export function Or() {
  return (
    <div className={styles.or}>
      <span>or</span>
    </div>
  );
}
