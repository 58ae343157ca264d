import fc from 'fast-check';
import { Bag, type BagMember } from '../../lib/runtime/intrusive-set.js';

describe('a bag', () => {
  it('holds what was added and not deleted, as a set does', () => {
    const step = fc.record({ which: fc.nat({ max: 7 }), isAdd: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const members = Array.from({ length: 8 }, (): BagMember => ({ place: -1 }));
        const bag = new Bag<BagMember>();
        const model = new Set<BagMember>();
        for (const { which, isAdd } of steps) {
          const member = members[which]!;
          if (!isAdd) expect(bag.delete(member)).toBe(model.delete(member));
          else if (!model.has(member)) {
            bag.add(member);
            model.add(member);
          }
          expect(bag.size).toBe(model.size);
          expect(new Set(bag)).toEqual(model);
          expect([...bag].map(({ place }) => place)).toEqual([...bag].map((_, i) => i));
          expect(members.every((one) => (one.place === -1) === !model.has(one))).toBe(true);
        }
      }),
    );
  });

  it('may be changed while it is looked through: who was in it is met once', () => {
    const bag = new Bag<BagMember>();
    const members = Array.from({ length: 4 }, (): BagMember => ({ place: -1 }));
    for (const member of members) bag.add(member);
    const met: BagMember[] = [];
    for (const member of bag) {
      met.push(member);
      bag.delete(member);
    }
    expect(met).toEqual(members);
    expect(bag.size).toBe(0);
  });
});
