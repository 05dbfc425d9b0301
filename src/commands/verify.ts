import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { allowSimulated, at, endorsements, parseTime } from '../cli/flags.ts';
import { EXIT } from '../core/errors.ts';
import { type Attachment, KINDS, TEES } from '../tasks/verify/report.ts';

/** Intel's names; what Intel revoked is never accepted. */
const ACCEPTABLE = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'TDRelaunchAdvised',
  'TDRelaunchAdvisedConfigurationNeeded',
] as const;

export default class Verify extends BaseCommand {
  static override summary = 'Check any artifact, offline, and say why it holds or does not.';
  static override description = `\
Exit code 0: everything that was asked for holds. 3: something does not. 2: nothing to compare with; that is never a
pass. Simulated evidence fails unless --allow-simulated names its root, and the verdict says SIMULATED.`;
  static override examples = [
    {
      description: 'A build: its images have the digests and the measurements that the manifest says',
      command: '<%= config.bin %> verify dist/build.intoto.json',
    },
    {
      description: 'The same, and who built it',
      command: '<%= config.bin %> verify dist/build.intoto.json --key build.key.pub',
    },
    {
      description: 'The same, and that its inputs give this image: built again, without a network, and compared',
      command: '<%= config.bin %> verify dist/build.intoto.json --rebuild --inputs inputs',
    },
    {
      description: 'An answer: from this image, this model, to this request',
      command:
        '<%= config.bin %> verify receipt.cbor --evidence evidence.json --manifest dist/build.intoto.json --request request.json --response response.json --allow-simulated local',
    },
    {
      description: 'A sealed model opens only in this image',
      command: '<%= config.bin %> verify model.sealed --manifest dist/build.intoto.json --json',
    },
    {
      description: 'An image against published registers',
      command: '<%= config.bin %> verify app.eif --expect pcr0=21b9efbc...',
    },
    {
      description: 'An SGX enclave: manifest, signature and libpal.so belong together, and to this measurement',
      command:
        '<%= config.bin %> verify app.manifest.sgx --libpal libpal.so --expect mrenclave=a513... --expect mrsigner=abf4...',
    },
    {
      description: 'A TDX quote, with what the vendor says of the machine; the verdict as a page, too',
      command:
        '<%= config.bin %> verify quote.bin --kind tdx --endorsements endorsements --expect mrtd=8a1f... --html verdict.html',
    },
  ];
  static override strict = false;
  static override args = { file: Args.string({ required: true, description: 'one or more files' }) };
  static override flags = {
    kind: Flags.option({
      options: [...KINDS, ...TEES],
      description: 'what the file, or the evidence, must be; without it, what is found is part of the verdict',
    })(),
    manifest: Flags.string({ helpValue: 'FILE', description: 'build manifest to compare with' }),
    expect: Flags.string({
      multiple: true,
      helpValue: 'REGISTER=HEX|none',
      description: 'measurement register to compare with',
    }),
    owner: Flags.string({ helpValue: 'FILE', description: 'owner public key of a sealed model' }),
    key: Flags.string({
      helpValue: 'FILE',
      description:
        'public key of who signed a build manifest or a model; or recovery key: open the sealed model, check every byte',
    }),
    evidence: Flags.string({ helpValue: 'FILE', description: 'evidence that a receipt refers to' }),
    'public-key': Flags.string({ helpValue: 'HEX', description: 'receipt: signature and claims only, under this key' }),
    request: Flags.string({ helpValue: 'FILE', description: 'exact request bytes of a receipt' }),
    response: Flags.string({ helpValue: 'FILE', description: 'exact response bytes of a receipt' }),
    nonce: Flags.string({ helpValue: 'HEX', description: 'nonce that evidence or receipt must carry' }),
    'max-age': Flags.integer({ helpValue: 'SECONDS', min: 1, description: 'oldest receipt to accept' }),
    at,
    endorsements,
    root: Flags.string({ helpValue: 'PEM', description: "root certificate in place of the vendor's pinned one" }),
    'accept-tcb': Flags.option({
      options: ACCEPTABLE,
      multiple: true,
      description: "Intel's rating of the platform that will do (UpToDate alone by default)",
    })(),
    'accept-product': Flags.string({
      multiple: true,
      helpValue: 'NAME',
      description: 'product line that will do although it is denied by default, such as Milan',
    }),
    policy: Flags.string({
      helpValue: 'FILE',
      exclusive: ['accept-tcb', 'accept-product', 'accept-vmpl'],
      description: 'release policy (JSON, as seal takes it) that the evidence has to satisfy',
    }),
    'accept-vmpl': Flags.integer({
      helpValue: '0-3',
      min: 0,
      max: 3,
      description: 'least privileged level of an SNP guest that will do (0 by default)',
    }),
    libpal: Flags.string({
      helpValue: 'FILE',
      description: "libpal.so that an SGX enclave's MRENCLAVE is computed with [default: of NAME.gramine]",
    }),
    'accept-debug': Flags.boolean({ description: 'a DEBUG enclave (SIGSTRUCT) will do; the verdict says so' }),
    rebuild: Flags.boolean({
      description: 'of a build manifest: build again from its lock, and compare measurements and bytes',
    }),
    project: Flags.string({
      helpValue: 'DIR',
      dependsOn: ['rebuild'],
      description: "project to rebuild from (default: the directory above the manifest's, or the archive's own copy)",
    }),
    inputs: Flags.string({
      helpValue: 'DIR',
      dependsOn: ['rebuild'],
      description: 'archive of inputs (build --save-inputs) to rebuild from: nothing is fetched',
    }),
    offline: Flags.boolean({ dependsOn: ['rebuild'], description: 'rebuild from the cache only' }),
    'allow-simulated': allowSimulated,
    html: Flags.string({ helpValue: 'FILE', description: 'write the verdict as one self-contained page, too' }),
  };

  async run() {
    const { argv, flags } = await this.parse(Verify);
    const { verify } = await import('../tasks/verify/index.ts');
    const attachments = new Map<number, Attachment[]>();
    const report = await verify({
      files: argv as string[],
      kind: flags.kind,
      manifest: flags.manifest,
      expect: flags.expect ?? [],
      owner: flags.owner,
      key: flags.key,
      evidence: flags.evidence,
      publicKey: flags['public-key'],
      request: flags.request,
      response: flags.response,
      nonce: flags.nonce,
      maxAge: flags['max-age'],
      at: flags.at === undefined ? undefined : parseTime(flags.at),
      endorsements: flags.endorsements,
      root: flags.root,
      acceptTcb: flags['accept-tcb'],
      acceptProduct: flags['accept-product'],
      acceptVmpl: flags['accept-vmpl'],
      policy: flags.policy,
      libpal: flags.libpal,
      acceptDebug: flags['accept-debug'],
      rebuild: flags.rebuild || undefined,
      project: flags.project,
      inputs: flags.inputs,
      offline: flags.offline,
      allowSimulated: flags['allow-simulated'] ?? [],
      onAttachment: (index, attachment) => attachments.set(index, [...(attachments.get(index) ?? []), attachment]),
      onProgress: this.onProgress,
    });
    if (flags.html !== undefined) {
      const { renderPage } = await import('../report/index.ts');
      const { writeFileAtomic } = await import('../core/files.ts');
      await writeFileAtomic(flags.html, renderPage(report, { version: this.config.version, attachments }));
    }
    if (report.verdict === 'fail') process.exitCode = EXIT.negative;
    if (!this.jsonEnabled()) {
      const { trustTree } = await import('../cli/trust-tree.ts');
      this.log(trustTree(report));
    }
    return report;
  }
}
