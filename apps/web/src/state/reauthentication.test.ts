// Signing in once more: one question for however many calls, which then go on or fail together.

import { beforeEach, expect, it } from 'vitest';
import { createClient } from '../sdk';
import { FakeWorld, settle } from '../sdk/test/fakes';
import { Reauthentication } from './reauthentication';

let world: FakeWorld;
let question: Reauthentication;
let recent: boolean;

beforeEach(() => {
  world = new FakeWorld();
  question = new Reauthentication();
  recent = false;
  world.handler = (method) => {
    if (recent || method === 'GET') return { status: 200, body: { passkeys: [] } };
    return { status: 403, body: { code: 'forbidden', field: 'reauthenticate' } };
  };
});

const client = () => createClient({ origin: '', env: world.env, reauthenticate: question.ask });

it('is asked once, and what waited is sent again', async () => {
  const { auth } = client();
  const both = Promise.all([auth.removePasskey('a'), auth.removePasskey('b')]);
  await settle();
  expect(question.asked.get()).toBe(true);
  expect(world.calls).toHaveLength(2);
  recent = true;
  question.done();
  await both;
  expect(question.asked.get()).toBe(false);
  expect(world.calls.map(({ path }) => path.at(-1))).toEqual(['a', 'b', 'a', 'b']);
});

it('is asked again later, and a refusal after it is a failure', async () => {
  const { auth } = client();
  const removing = auth.removePasskey('a');
  await settle();
  question.done();
  await expect(removing).rejects.toMatchObject({ code: 'forbidden' });
  expect(world.calls).toHaveLength(2);
  void auth.removePasskey('a').catch(() => {});
  await settle();
  expect(question.asked.get()).toBe(true);
});

it('ends what waited when nobody wants to answer', async () => {
  const removing = client().auth.removePasskey('a');
  await settle();
  question.cancel();
  await expect(removing).rejects.toMatchObject({ code: 'cancelled' });
  expect(world.calls).toHaveLength(1);
});

it('is not asked for any other refusal', async () => {
  world.handler = () => ({ status: 403, body: { code: 'forbidden' } });
  await expect(client().auth.removePasskey('a')).rejects.toMatchObject({ code: 'forbidden' });
  expect(question.asked.get()).toBe(false);
});

it('tells the ticket of a second factor', async () => {
  world.handler = () => ({ status: 401, body: { code: 'second_factor_required', ticket: 't1' } });
  await expect(client().auth.login('ada', 'secret')).rejects.toMatchObject({
    code: 'second_factor_required',
    ticket: 't1',
  });
  expect(world.calls).toHaveLength(1);
});
