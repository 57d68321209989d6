BEGIN TRANSACTION;
CREATE TABLE leaderboard_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT leaderboard_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "leaderboard_schema" VALUES('0001');
CREATE TABLE record (
	seq INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	schema_ver INTEGER NOT NULL, 
	body_sha TEXT NOT NULL, 
	prev_sha TEXT NOT NULL, 
	chain_sha TEXT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (seq), 
	CONSTRAINT record_kind CHECK (kind IN ('result', 'import', 'retraction', 'note')), 
	CONSTRAINT record_sha CHECK (length(body_sha) = 64 AND length(prev_sha) = 64), 
	CONSTRAINT record_chain CHECK (length(chain_sha) = 64), 
	UNIQUE (chain_sha)
);
INSERT INTO "record" VALUES(1,'r1','result',1,'113a9562bbf94ab5cacc1192d14dcdb1f236e87b7ad880c7d48f4011f6c993db','0000000000000000000000000000000000000000000000000000000000000000','29836a13d392ee80f136c3758595ebf9c1d4d367217d3fa1e414317e99c39431','{"kind":"result","recorded":"2026-11-20T11:40:17+00:00","result":{"candidates":[{"best_step":200,"chosen":true,"dev":0.95,"improved":true,"lr":0.001,"nan_steps":0,"partition":"all","seed":0,"train_loss":0.1}],"data":{"counts":{"dev":1,"test":3081,"train":1},"sha":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"},"departures":["the data are not the official ones"],"dev_scores":[{"counts":{},"denominator":1000,"direction":"max","metric":"accuracy","numerator":950,"value":0.95}],"environment":{"superbench":"0.1.0","torch":"2.13.0"},"features":{"bytes":100,"computed":10,"form":"pooled","reused":0,"seconds":1.0,"segments":10},"finished":"2026-01-02T03:04:05Z","fold_scores":{},"folder":"runs/ks/hubert_base/0","group":"9999999999999999999999999999999999999999999999999999999999999999","head":"mean_linear:projector=256","label":"custom","layer_weights":{"all":[0.25,0.75]},"layer_weights_norm_corrected":{"all":[0.5,0.5]},"layers":"all","lr":0.001,"plan":{"task":"ks"},"protocol_sha":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","run_id":"r1","schema":1,"scores":[{"counts":{},"denominator":3081,"direction":"max","metric":"accuracy","numerator":2970,"value":0.9639727361246349}],"seed":0,"task":"ks","task_version":"1.2","timings":{"features":1.5},"train_scores":[],"upstream":"hubert_base","upstream_fingerprint":"","upstream_key":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","upstream_plugin":{"distribution":"superbench","file":"","plugin":"upstreams","version":"0.1"},"warnings":[]},"run_id":"r1","schema":1}');
INSERT INTO "record" VALUES(2,'r2','import',1,'7d9d9402ce706320e8d19814248c389ba7ca75548e390d3fb1f6b5ffb4867785','29836a13d392ee80f136c3758595ebf9c1d4d367217d3fa1e414317e99c39431','0abcdbd10e03e49129253487190cce9c977f9af67bde42fdb87c86b615356779','{"kind":"import","recorded":"2026-11-20T11:40:17+00:00","result":{"candidates":[{"best_step":200,"chosen":true,"dev":0.95,"improved":true,"lr":0.001,"nan_steps":0,"partition":"all","seed":0,"train_loss":0.1}],"data":{"counts":{"dev":1,"test":3081,"train":1},"sha":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"},"departures":["the data are not the official ones"],"dev_scores":[{"counts":{},"denominator":1000,"direction":"max","metric":"accuracy","numerator":950,"value":0.95}],"environment":{"superbench":"0.1.0","torch":"2.13.0"},"features":{"bytes":100,"computed":10,"form":"pooled","reused":0,"seconds":1.0,"segments":10},"finished":"2026-01-02T03:04:05Z","fold_scores":{},"folder":"runs/ks/hubert_base/0","group":"9999999999999999999999999999999999999999999999999999999999999999","head":"mean_linear:projector=256","label":"custom","layer_weights":{"all":[0.25,0.75]},"layer_weights_norm_corrected":{"all":[0.5,0.5]},"layers":"all","lr":0.001,"plan":{"task":"ks"},"protocol_sha":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","run_id":"r2","schema":1,"scores":[{"counts":{},"denominator":3081,"direction":"max","metric":"accuracy","numerator":2985,"value":0.9688412852969815}],"seed":1,"task":"ks","task_version":"1.2","timings":{"features":1.5},"train_scores":[],"upstream":"hubert_base","upstream_fingerprint":"","upstream_key":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","upstream_plugin":{"distribution":"superbench","file":"","plugin":"upstreams","version":"0.1"},"warnings":[]},"run_id":"r2","schema":1}');
INSERT INTO "record" VALUES(3,'r1','retraction',1,'21b294dd06a536c2f5e8ce646aa6d84db8d0edec37b3b243d10e9386140a0f50','0abcdbd10e03e49129253487190cce9c977f9af67bde42fdb87c86b615356779','83b26401a9ab6c4764a5dcde71736148cc4ef9b5fd306dc74d2c9f1f683c746a','{"kind":"retraction","recorded":"2026-11-20T11:40:17+00:00","retracts":1,"run_id":"r1","schema":1,"why":"scored on the wrong corpus"}');
CREATE INDEX record_run_id ON record (run_id);
CREATE TRIGGER record_no_update BEFORE UPDATE ON record BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER record_no_delete BEFORE DELETE ON record BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER record_next_only BEFORE INSERT ON record
    WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM record)
      OR NEW.prev_sha <> coalesce((SELECT chain_sha FROM record ORDER BY seq DESC LIMIT 1), NEW.prev_sha)
    BEGIN SELECT RAISE(ABORT, 'a record must follow the last one'); END;
COMMIT;
