// How one signs in: passkeys, the password, the second factor.

import { PasskeyList } from './PasskeyList';
import { PasswordSection } from './PasswordSection';
import { SecondFactorSection } from './SecondFactorSection';
import styles from './security.module.css';

export function SecurityPage() {
  return (
    <div className={styles.sections}>
      <PasskeyList />
      <SecondFactorSection />
      <PasswordSection />
    </div>
  );
}
