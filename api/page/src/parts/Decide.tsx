// At which rate of errors is decided: the gallery's, or another one for this question.
export interface Rate {
  value: string;
  words: string;
}

export function Decide({ rates, value, onValue }: { rates: readonly Rate[]; value: string; onValue: (rate: string) => void }) {
  return (
    <label class="field">
      <span class="field-name">Decide</span>
      <select value={value} onChange={(event) => onValue(event.currentTarget.value)}>
        <option value="">as the gallery decides</option>
        {rates.map((one) => (
          <option key={one.value} value={one.value}>
            {one.words}
          </option>
        ))}
      </select>
    </label>
  );
}
