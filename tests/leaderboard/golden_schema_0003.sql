BEGIN TRANSACTION;
CREATE TABLE leaderboard_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT leaderboard_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "leaderboard_schema" VALUES('0003');
CREATE TABLE published (
	source TEXT NOT NULL, 
	snapshot TEXT NOT NULL, 
	system TEXT NOT NULL, 
	task TEXT NOT NULL, 
	metric TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	unit TEXT NOT NULL, 
	direction TEXT NOT NULL, 
	parameters BIGINT, 
	stride BIGINT, 
	submitter TEXT NOT NULL, 
	submitted TEXT NOT NULL, 
	track TEXT NOT NULL, 
	input TEXT NOT NULL, 
	corpus TEXT NOT NULL, 
	description TEXT NOT NULL, 
	PRIMARY KEY (source, snapshot, system, task, metric), 
	CONSTRAINT published_direction CHECK (direction IN ('min', 'max')), 
	CONSTRAINT published_value CHECK (value BETWEEN -1e300 AND 1e300), 
	CONSTRAINT published_unit CHECK (unit IN ('percent', 'mos', 'dB'))
);
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','pr','per',82.01,'percent','min',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','ks','accuracy',41.3826674,'percent','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','ic','accuracy',9.649354219,'percent','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','sid','accuracy',20.058174,'percent','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','er','accuracy',48.23672168,'percent','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','asr','wer',23.18,'percent','min',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','asr','wer_lm',15.21,'percent','min',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','qbe','mtwv',0.58,'percent','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','sf','slot_type_f1',69.64,'percent','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','sf','slot_value_cer',52.94,'percent','min',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','asv','eer',9.56,'percent','min',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','sd','der',10.05,'percent','min',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','st','bleu',2.32,'percent','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','se','pesq',2.55,'mos','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','se','stoi',93.6,'percent','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
INSERT INTO "published" VALUES('superb','2022-04-10 a35a9ec','FBANK','ss','si_sdri',9.2341,'dB','max',0,10,'paper','Interspeech2021','CONSTRAINED','waveform','','classic feature');
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
INSERT INTO "record" VALUES(1,'r1','result',1,'8988e139d2dc02d501ecab0ff6a36cb6f3208b1679493cefe08872e09e2a97bd','0000000000000000000000000000000000000000000000000000000000000000','828345a06e811e77ff06dbc13a11db48383b78ef6adcae318600a7559af62db3','{"kind":"result","recorded":"2026-11-20T11:42:06+00:00","result":{"candidates":[{"best_step":200,"chosen":true,"dev":0.95,"improved":true,"lr":0.001,"nan_steps":0,"partition":"all","seed":0,"train_loss":0.1}],"data":{"counts":{"dev":1,"test":3081,"train":1},"sha":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"},"departures":["the data are not the official ones"],"dev_scores":[{"counts":{},"denominator":1000,"direction":"max","metric":"accuracy","numerator":950,"value":0.95}],"environment":{"superbench":"0.1.0","torch":"2.13.0"},"features":{"bytes":100,"computed":10,"form":"pooled","reused":0,"seconds":1.0,"segments":10},"finished":"2026-01-02T03:04:05Z","fold_scores":{},"folder":"runs/ks/hubert_base/0","group":"9999999999999999999999999999999999999999999999999999999999999999","head":"mean_linear:projector=256","label":"custom","layer_weights":{"all":[0.25,0.75]},"layer_weights_norm_corrected":{"all":[0.5,0.5]},"layers":"all","lr":0.001,"plan":{"task":"ks"},"protocol_sha":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","run_id":"r1","schema":1,"scores":[{"counts":{},"denominator":3081,"direction":"max","metric":"accuracy","numerator":2970,"value":0.9639727361246349}],"seed":0,"task":"ks","task_version":"1.2","timings":{"features":1.5},"train_scores":[],"upstream":"hubert_base","upstream_fingerprint":"","upstream_key":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","upstream_plugin":{"distribution":"superbench","file":"","plugin":"upstreams","version":"0.1"},"warnings":[]},"run_id":"r1","schema":1}');
INSERT INTO "record" VALUES(2,'r2','import',1,'b43f8ed739dab836b23bd50837593a5a3542ea58972203e83d291c26c119b1bf','828345a06e811e77ff06dbc13a11db48383b78ef6adcae318600a7559af62db3','8213fbe2cbc6613d52c59402ee3759e60cb93e913dcce83a0be55ea412e8d666','{"kind":"import","recorded":"2026-11-20T11:42:06+00:00","result":{"candidates":[{"best_step":200,"chosen":true,"dev":0.95,"improved":true,"lr":0.001,"nan_steps":0,"partition":"all","seed":0,"train_loss":0.1}],"data":{"counts":{"dev":1,"test":3081,"train":1},"sha":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"},"departures":["the data are not the official ones"],"dev_scores":[{"counts":{},"denominator":1000,"direction":"max","metric":"accuracy","numerator":950,"value":0.95}],"environment":{"superbench":"0.1.0","torch":"2.13.0"},"features":{"bytes":100,"computed":10,"form":"pooled","reused":0,"seconds":1.0,"segments":10},"finished":"2026-01-02T03:04:05Z","fold_scores":{},"folder":"runs/ks/hubert_base/0","group":"9999999999999999999999999999999999999999999999999999999999999999","head":"mean_linear:projector=256","label":"custom","layer_weights":{"all":[0.25,0.75]},"layer_weights_norm_corrected":{"all":[0.5,0.5]},"layers":"all","lr":0.001,"plan":{"task":"ks"},"protocol_sha":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","run_id":"r2","schema":1,"scores":[{"counts":{},"denominator":3081,"direction":"max","metric":"accuracy","numerator":2985,"value":0.9688412852969815}],"seed":1,"task":"ks","task_version":"1.2","timings":{"features":1.5},"train_scores":[],"upstream":"hubert_base","upstream_fingerprint":"","upstream_key":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","upstream_plugin":{"distribution":"superbench","file":"","plugin":"upstreams","version":"0.1"},"warnings":[]},"run_id":"r2","schema":1}');
INSERT INTO "record" VALUES(3,'r1','retraction',1,'caf762af0b6a1b482220ac2120fb9b474df22c355587d678937dfd7f7746faac','8213fbe2cbc6613d52c59402ee3759e60cb93e913dcce83a0be55ea412e8d666','e8812f77a3d36536f835f81eac1808000d18ab6a3bbc8293cf1706e1edfe4344','{"kind":"retraction","recorded":"2026-11-20T11:42:06+00:00","retracts":1,"run_id":"r1","schema":1,"why":"scored on the wrong corpus"}');
CREATE TABLE result (
	seq INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	group_id TEXT NOT NULL, 
	task TEXT NOT NULL, 
	task_version TEXT NOT NULL, 
	protocol_sha TEXT NOT NULL, 
	data_sha TEXT NOT NULL, 
	label TEXT NOT NULL, 
	departures TEXT NOT NULL, 
	comparable_key TEXT NOT NULL, 
	upstream TEXT NOT NULL, 
	upstream_key TEXT NOT NULL, 
	layers TEXT NOT NULL, 
	head TEXT NOT NULL, 
	seed BIGINT NOT NULL, 
	lr DOUBLE, 
	metric TEXT NOT NULL, 
	direction TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	n_items BIGINT NOT NULL, 
	superbench TEXT NOT NULL, 
	finished TEXT NOT NULL, 
	retracted_by INTEGER, 
	PRIMARY KEY (seq), 
	CONSTRAINT result_label CHECK (label IN ('custom', 'superb')), 
	CONSTRAINT result_direction CHECK (direction IN ('min', 'max')), 
	CONSTRAINT result_value CHECK (value BETWEEN -1e300 AND 1e300), 
	CONSTRAINT result_items CHECK (n_items > 0), 
	FOREIGN KEY(seq) REFERENCES record (seq), 
	FOREIGN KEY(retracted_by) REFERENCES record (seq)
);
INSERT INTO "result" VALUES(1,'r1','9999999999999999999999999999999999999999999999999999999999999999','ks','1.2','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','custom','["the data are not the official ones"]','01b9f1b13328a86b0bc6cc732d513974224a7906d7e14441f96405e8c73e0243','hubert_base','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','all','mean_linear:projector=256',0,0.001,'accuracy','max',9.63972736124634854704e-01,3081,'','2026-01-02T03:04:05Z',3);
INSERT INTO "result" VALUES(2,'r2','9999999999999999999999999999999999999999999999999999999999999999','ks','1.2','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','custom','["the data are not the official ones"]','01b9f1b13328a86b0bc6cc732d513974224a7906d7e14441f96405e8c73e0243','hubert_base','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','all','mean_linear:projector=256',1,0.001,'accuracy','max',9.6884128529698154697e-01,3081,'','2026-01-02T03:04:05Z',NULL);
CREATE INDEX record_run_id ON record (run_id);
CREATE TRIGGER record_no_update BEFORE UPDATE ON record BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER record_no_delete BEFORE DELETE ON record BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER record_next_only BEFORE INSERT ON record
    WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM record)
      OR NEW.prev_sha <> coalesce((SELECT chain_sha FROM record ORDER BY seq DESC LIMIT 1), NEW.prev_sha)
    BEGIN SELECT RAISE(ABORT, 'a record must follow the last one'); END;
CREATE INDEX result_comparable ON result (task, label, comparable_key);
CREATE UNIQUE INDEX result_live_run ON result (run_id) WHERE retracted_by IS NULL;
COMMIT;
