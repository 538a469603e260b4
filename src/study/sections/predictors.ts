import type { Numbers, Scored } from "../schema.ts";
import { type Chart, colours, layerLines, type Section, shareAxis } from "../section.ts";
import { capital, change, largest, nats, percent, perplexity, smallest } from "../words.ts";

type Unit = "mlp" | "heads";
const unitNames: Record<Unit, string> = { mlp: "neurons", heads: "heads" };

interface Row {
  readonly layer: number;
  readonly density: number;
  readonly recall: number;
  readonly precision: number;
}

const rowsOf = (run: Scored, unit: Unit): Row[] => run.layers.map((of, layer) => ({ layer, ...of[unit] }));

const isChosen = (row: Row): boolean => row.density < 1;

function fidelityChart(run: Scored, unit: Unit): Chart {
  const rows = rowsOf(run, unit);
  const names = ["recall", "precision", "density"] as const;
  const values = rows.flatMap((row) =>
    names.map((series) => ({ layer: row.layer, series, share: row[series] })),
  );
  const widest = largest(rows, (row) => row.density);
  return {
    id: `predictors-${unit}`,
    title: `${capital(unitNames[unit])}: ${percent(run[unit].recall)} of the true sets are found by computing ${percent(run[unit].density)}; layer ${widest.layer} takes ${percent(widest.density)}`,
    spec: layerLines(values, shareAxis("share", "share", 1), names, [
      colours.blue,
      colours.orange,
      colours.grey,
    ]),
    table: {
      columns: ["layer", "density", "recall", "precision"],
      rows: rows.map(({ layer, density, recall, precision }) => [
        String(layer),
        ...[density, recall, precision].map(percent),
      ]),
    },
  };
}

function neuronSentences(run: Scored): string[] {
  const rows = rowsOf(run, "mlp");
  const chosen = rows.filter(isChosen);
  if (chosen.length === 0) return ["The bundle computes all neurons of all layers."];
  const [low, high] = [smallest(chosen, (r) => r.recall), largest(chosen, (r) => r.recall)];
  const wasteful = smallest(chosen, (r) => r.precision);
  const full = largest(chosen, (r) => r.density);
  const evenness =
    high.recall - low.recall < 0.03
      ? `Recall is about the same in all layers (${percent(low.recall)} to ${percent(high.recall)}); what it costs is not.`
      : `Recall is lowest in layer ${low.layer} (${percent(low.recall)}) and highest in layer ${high.layer} (${percent(high.recall)}).`;
  const sentences = [
    `The predictors find ${percent(run.mlp.recall)} of the active neurons by computing ${percent(run.mlp.density)} of all. ${evenness}`,
    `Of what is computed, ${percent(run.mlp.precision)} turns out to be active; least in layer ${wasteful.layer}, ${percent(wasteful.precision)}.`,
  ];
  if (full.density > 0.5)
    sentences.push(
      `Layer ${full.layer} must compute ${percent(full.density)} of its neurons for that recall, so less than half of fc1 is saved there.`,
    );
  return sentences;
}

function headSentence(run: Scored): string {
  const rows = rowsOf(run, "heads").filter(isChosen);
  if (rows.length === 0)
    return "All heads are computed: the bundle's policy leaves none out, so nothing is predicted about them.";
  const low = smallest(rows, (row) => row.recall);
  return `Heads are left out in ${rows.length} of ${run.layers.length} layers (${percent(run.heads.density)} computed); of the heads with the largest norms, ${percent(low.recall)} are found where it is worst, in layer ${low.layer}.`;
}

export function predictorsSection({ predictors, bundle }: Numbers): Section {
  const title = "What the bundle's predictors find";
  const id = "predictors";
  if (predictors === null || bundle === null)
    return {
      id,
      title,
      method: "",
      sentences: ["There is no bundle, so there are no predictors to measure."],
      charts: [],
    };
  const { perplexity: sparse, densePerplexity: dense, kl, top1Agreement } = predictors;
  const hasHeadChoice = rowsOf(predictors, "heads").some(isChosen);
  return {
    id,
    title,
    method: `The bundle's own policy, each layer with its own size. Neurons are predicted from ${bundle.sources.neurons}, heads from ${bundle.sources.heads}. Recall: share of the true set that is computed; precision: share of what is computed that is in the true set; both of the sparse run's own inputs. For heads, the true set is as many of the largest norms as were chosen.`,
    sentences: [
      `With this bundle perplexity is ${perplexity(sparse)}, ${change(sparse / dense - 1)} against dense; the KL divergence from dense is ${nats(kl)} nats, and the most likely token is the same for ${percent(top1Agreement)} of the positions.${sparse < dense ? " That perplexity falls is luck with these documents: the divergence says what was lost." : ""}`,
      ...neuronSentences(predictors),
      headSentence(predictors),
    ],
    charts: [
      fidelityChart(predictors, "mlp"),
      ...(hasHeadChoice ? [fidelityChart(predictors, "heads")] : []),
    ],
  };
}
