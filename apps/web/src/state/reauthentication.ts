// Signing in once more before something that changes how one signs in. However many calls want it, one question is
// asked, and all of them go on or fail by its answer.

import { StackError } from '../sdk';
import { Store } from './store';

export class Reauthentication {
  /** Whether the question stands. */
  readonly asked = new Store(false);
  #answer: Promise<void> | null = null;
  #resolve: () => void = () => {};
  #reject: (error: StackError) => void = () => {};

  /** @throws {StackError} `cancelled` if the person would rather not */
  readonly ask = (): Promise<void> => {
    if (this.#answer === null) {
      this.#answer = new Promise((resolve, reject) => {
        this.#resolve = resolve;
        this.#reject = reject;
      });
      this.asked.set(true);
    }
    return this.#answer;
  };

  /** It was proven who it is. */
  readonly done = (): void => {
    this.#close();
    this.#resolve();
  };

  readonly cancel = (): void => {
    this.#close();
    this.#reject(new StackError('cancelled', 'It was not confirmed who you are.'));
  };

  #close(): void {
    this.#answer = null;
    this.asked.set(false);
  }
}
